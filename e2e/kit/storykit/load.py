"""A steady load on one model: streams, and whole answers beside them, both written down."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localkube import waiting
from storykit.installation import Installation
from storykit.ledger import Ledger, asking

_BEGINS_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Pace:
    """So many requests per second, each with so many tokens."""

    rate: int
    tokens: int

    @property
    def words(self) -> tuple[str, ...]:
        return ("--rate", str(self.rate), "--tokens", str(self.tokens))


@dataclass(frozen=True, slots=True)
class Load:
    """Both books."""

    streams: Ledger
    answers: Ledger

    def goes_on(self, count: int) -> None:
        """So many more streams have ended."""
        after = len(self.streams.entries)
        waiting.until(lambda: len(self.streams.entries) >= after + count, what="load that goes on", seconds=180)

    def all_ok(self, tokens: int) -> None:
        """No more requests. None failed, and no stream is shorter or longer for what happened."""
        for ledger in (self.streams, self.answers):
            print(f"{len(ledger.all_ok())} ok")
        assert {entry.tokens for entry in self.streams.entries} == {tokens}


@contextmanager
def steady(shoal: Installation, folder: Path, model: str, *, streams: Pace, answers: Pace) -> Iterator[Load]:
    """Begins when one of each kind was answered, and ends with the block."""
    url, key = shoal.url, shoal.key
    with (
        asking(shoal.cluster, folder, url, model, *streams.words, "--stream", key=key) as of_streams,
        asking(shoal.cluster, folder, url, model, *answers.words, key=key) as of_answers,
    ):
        load = Load(of_streams, of_answers)
        waiting.until(
            lambda: bool(of_streams.count("ok") and of_answers.count("ok")),
            what="first answers",
            seconds=_BEGINS_SECONDS,
        )
        yield load


def served_by(shoal: Installation, folder: Path, name: str) -> str:
    """Who answers to this name, asked a few times: one model, as `namespace/name`."""
    with asking(shoal.cluster, folder, shoal.url, name, "--rate", "5", "--seconds", "1", key=shoal.key) as ledger:
        ledger.client.wait(180)
        entries = ledger.all_ok()
    (model,) = {entry.served_by.split(";")[0] for entry in entries}
    return model
