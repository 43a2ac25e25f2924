"""`shoal key new` makes a key once and an entry that is no secret; `shoal up --keys-file` asks for it."""

import hashlib
import http.client
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from facts import DEADLINE_SECONDS
from one_machine_up import COMMAND, a_file_model, up
from shoal_operator import keys
from shoal_operator.settings import BadSettings
from shoal_operator.supervised import HOST


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=folder)


def test_the_key_goes_to_one_stream_and_its_entry_to_the_other_so_that_it_can_be_appended_to_a_file() -> None:
    made = [run("key", "new", "alice", "--models", "llama, qwen"), run("key", "new", "bob@example.org")]
    entries = yaml.safe_load("".join(one.stdout for one in made))
    shown = [one.stderr.split()[-1] for one in made]
    assert [entry["name"] for entry in entries] == ["alice", "bob@example.org"]
    assert [entry["models"] for entry in entries] == [["llama", "qwen"], ["*"]]
    assert [entry["sha256"] for entry in entries] == [hashlib.sha256(key.encode()).hexdigest() for key in shown]
    assert all(key.startswith("sk-shoal-") and len(key) > 50 and key not in made[0].stdout for key in shown)
    assert shown[0] != shown[1]


@pytest.mark.parametrize(
    ("name", "models"), [("a b", "m"), ("", "m"), ("x" * 64, "m"), ("a", ""), ("a", "m,"), ("a", "m*")]
)
def test_an_entry_that_would_be_refused_is_not_made(name: str, models: str) -> None:
    made = run("key", "new", name, "--models", models)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith("error: name: " if models == "m" else "error: models[")
    assert len(made.stderr.splitlines()) == 1


def test_a_priority_stands_in_the_entry_only_where_it_says_something() -> None:
    entries = [
        yaml.safe_load(run("key", "new", "alice", *flags).stdout)[0]
        for flags in ([], ["--priority", "normal"], ["--priority", "high"], ["--priority", "low"])
    ]
    assert [entry.get("priority") for entry in entries] == [None, None, "high", "low"]
    refused = run("key", "new", "alice", "--priority", "highest")
    assert refused.returncode == 2
    assert "invalid choice: 'highest'" in refused.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a list of entries"),
        ("[", "is not YAML"),
        ("- {name: alice, since: 2026-02-30}", "is not YAML"),
        ("- {name: a, sha256: sk-plain, models: []}", r"\[0\]\.sha256: 64 hexadecimal digits are expected"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(BadSettings, match=rf"^--keys-file: {file}:? .*{said}") as bad:
        keys.check(file)
    assert "sk-plain" not in str(bad.value)
    with pytest.raises(BadSettings, match="cannot be read"):
        keys.check(tmp_path / "nowhere")


def test_shoal_up_asks_for_keys_and_refuses_what_contradicts_them(tmp_path: Path) -> None:
    made = run("key", "new", "alice", "--models", "one")
    (tmp_path / "keys.yaml").write_text(made.stdout)
    key = made.stderr.split()[-1]
    with up(tmp_path, a_file_model(tmp_path), flags="--simulator --keys-file keys.yaml") as running:
        running.until_ready()

        def status(headers: dict[str, str]) -> int:
            client = http.client.HTTPConnection(HOST, running.port, timeout=DEADLINE_SECONDS)
            question = json.dumps({"model": "one", "messages": [{"role": "user", "content": "Hello"}]})
            client.request("POST", "/v1/chat/completions", question, headers | {"content-type": "application/json"})
            answer = client.getresponse()
            answer.read()
            client.close()
            return answer.status

        assert status({}) == 401
        assert status({"authorization": f"Bearer {key}"}) == 200
        assert key not in running.said()
        flags = ["up", "-f", str(running.file), "--listen", "127.0.0.1:31697"]
        told = run(*flags, "--keys-file", "keys.yaml", "--allow-anonymous", folder=tmp_path)
        assert told.stderr.startswith("error: --allow-anonymous: with --keys-file")
        told = run(*flags, "--keys-file", "none.yaml", folder=tmp_path)
        assert told.stderr == f"error: --keys-file: {tmp_path}/none.yaml cannot be read (No such file or directory)\n"
        assert running.end() == 0
