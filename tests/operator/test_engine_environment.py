"""The engine's environment: which one, whether it is whole, and what the locks may hold."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facts import until
from one_machine_up import COMMAND
from shoal_operator import engines
from shoal_operator.engines import CannotInstall


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_a_lock_pins_everything_with_hashes_and_names_no_place(variant: engines.Variant) -> None:
    text = engines.lock_file(variant).read_text()
    packages = re.findall(r"^([a-z0-9][^ ]*==\S+)(?: ;.*)? \\$", text, re.MULTILINE)
    plain = [line for line in text.splitlines() if line and not line.startswith(("    --hash=sha256:", "#"))]

    assert len(plain) == len(packages) > 150
    assert any(package.startswith(("ray[", "ray==")) for package in packages)
    assert not re.search(r"https?://|file:|--index|--find-links|/(home|work|opt|tmp)/", text)


def test_an_environment_counts_only_when_it_is_complete(tmp_path: Path) -> None:
    found = engines.environment(tmp_path, "cpu")
    found.python.parent.mkdir(parents=True)
    found.python.touch()
    assert engines.python(tmp_path, "cpu", {}) is None

    (found.folder / "shoal-complete").touch()
    assert engines.python(tmp_path, "cpu", {}) == found.python
    assert engines.python(tmp_path, "gpu", {}) is None


def test_a_given_interpreter_overrides_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    variables = {"SHOAL_ENGINE_PYTHON": sys.executable}
    assert engines.python(tmp_path, "gpu", variables) == Path(sys.executable)

    wrong = {"SHOAL_ENGINE_PYTHON": "/nowhere/python"}
    assert engines.python(tmp_path, "cpu", wrong) is None
    assert "SHOAL_ENGINE_PYTHON=/nowhere/python is no program" in engines.missing_sentence("cpu", wrong)


def test_a_complete_environment_is_kept(tmp_path: Path) -> None:
    found = engines.environment(tmp_path, "cpu")
    found.folder.mkdir(parents=True)
    (found.folder / "shoal-complete").touch()
    said: list[str] = []

    engines.install(tmp_path, "cpu", force=False, say=said.append)

    assert said == [f"the CPU engine environment is there: {found.folder}"]


def test_two_installations_do_not_meet(tmp_path: Path) -> None:
    with engines.only_one(tmp_path / "engines"), pytest.raises(CannotInstall, match="wait for it"):
        engines.install(tmp_path, "cpu", force=False, say=print)


def test_an_installation_that_cannot_reach_its_packages_leaves_nothing(tmp_path: Path) -> None:
    told = subprocess.run(
        [*COMMAND, "engine", "install", "--cpu"],
        env=os.environ | {"SHOAL_HOME": str(tmp_path), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )

    assert told.returncode == 1
    assert "error: `uv pip sync` failed (its own words are above)" in told.stderr
    assert list((tmp_path / "engines").glob("cpu-*")) == []


def test_a_program_that_was_kept_ends_with_its_starter(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    sleeper = f"import os,time,pathlib; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import subprocess, sys; from shoal_operator import child; "
        f"subprocess.run(child.kept([sys.executable, '-c', {sleeper!r}]))"
    )
    starter = subprocess.Popen([sys.executable, "-c", program])
    pid = int(until(lambda: pid_file.read_text() if pid_file.exists() else ""))
    starter.send_signal(signal.SIGKILL)
    starter.wait()

    until(lambda: not Path(f"/proc/{pid}").exists())
