"""The stories' client writes down every request as it really ended."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from facts import DEADLINE_SECONDS, until
from held_ports import a_port
from localkube.access import Access
from storykit import ledger, load
from storykit.installation import Installation
from storykit.load import Pace

HERE = Access(kubeconfig=Path("/nowhere"), entry=(), environment={}, is_local=False)


@contextmanager
def engine() -> Iterator[str]:
    address = f"127.0.0.1:{a_port()}"
    command = [sys.executable, "-m", "shoal_serving.simulator", "--open", "--listen", address, "--model", "m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            until(lambda: answers(f"http://{address}/health"))
            yield f"http://{address}"
        finally:  # or the end of the block waits for it for ever
            process.kill()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=DEADLINE_SECONDS, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def order(url: str, **fault: object) -> None:
    httpx2.post(f"{url}/simulator/faults", json=fault, timeout=DEADLINE_SECONDS, trust_env=False).raise_for_status()


@pytest.mark.parametrize("words", [[], ["--stream"]], ids=["json", "stream"])
def test_every_answer_is_counted_with_its_text(tmp_path: Path, words: list[str]) -> None:
    with (
        engine() as url,
        ledger.asking(HERE, tmp_path, f"{url}/v1", "m", "--rate", "50", "--seconds", "0.2", *words) as book,
    ):
        book.client.wait(DEADLINE_SECONDS)
        entries = book.finish()

    assert [entry.outcome for entry in entries] == ["ok"] * 10, book.told()
    assert all(entry.tokens == 8 and entry.text for entry in entries)


@pytest.mark.parametrize(
    ("fault", "words", "outcome", "because"),
    [
        ({"kind": "cut", "after": 3}, ["--stream"], "cut", "RemoteProtocolError"),
        ({"kind": "error-event", "after": 3}, ["--stream"], "cut", "code"),
        ({"kind": "status", "code": 503}, [], "refused", "error"),
        ({"kind": "close"}, [], "lost", "RemoteProtocolError"),
    ],
)
def test_what_goes_wrong_is_never_counted_as_an_answer(
    tmp_path: Path, fault: dict[str, object], words: list[str], outcome: str, because: str
) -> None:
    with engine() as url:
        order(url, **fault)
        with ledger.asking(HERE, tmp_path, f"{url}/v1", "m", "--rate", "50", "--seconds", "0.1", *words) as book:
            book.client.wait(DEADLINE_SECONDS)
            entries = book.finish()

    assert len(entries) == 5
    assert {entry.outcome for entry in entries} == {outcome}, book.told()
    assert all(because in entry.because for entry in entries), book.told()


def test_a_client_that_is_told_to_stop_finishes_what_it_began(tmp_path: Path) -> None:
    with engine() as url, ledger.asking(HERE, tmp_path, f"{url}/v1", "m", "--rate", "20") as book:
        until(lambda: book.count("ok") >= 5)
        entries = book.finish()

    assert {entry.outcome for entry in entries} == {"ok"}
    assert [entry.number for entry in sorted(entries, key=lambda entry: entry.number)] == list(range(len(entries)))


def test_a_steady_load_goes_on_and_one_bad_end_is_told(tmp_path: Path) -> None:
    with engine() as url:
        shoal = Installation(HERE, f"{url}/v1", key="")
        with load.steady(shoal, tmp_path, "m", streams=Pace(20, 5), answers=Pace(20, 3)) as under:
            under.goes_on(3)
            under.all_ok(5)
        with load.steady(shoal, tmp_path, "m", streams=Pace(20, 5), answers=Pace(20, 3)) as under:
            order(url, kind="cut", after=3)
            until(lambda: under.streams.count("cut"))
            with pytest.raises(AssertionError, match="cut"):
                under.all_ok(5)
