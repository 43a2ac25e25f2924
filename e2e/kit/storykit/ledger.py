"""A client's ledger of requests: what was asked inside the cluster's network, and how each request ended."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from localkube.access import Access
from storykit.ledger_client import Entry

PROGRAM = Path(__file__).with_name("ledger_client.py")
_LAST_ANSWER_SECONDS = 600


@dataclass(slots=True)
class Ledger:
    """One client's book; complete when its client has ended."""

    file: Path
    client: Popen[bytes]

    @property
    def entries(self) -> list[Entry]:
        """Every request that has ended so far, in the order of their ends."""
        if not self.file.exists():
            return []
        lines = self.file.read_text().splitlines()
        return [Entry(**json.loads(line)) for line in lines if line.endswith("}")]

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(entry.outcome == outcome for entry in self.entries)

    def finish(self) -> list[Entry]:
        """No more requests; all entries, when the last answer is there."""
        if self.client.poll() is None:
            self.client.send_signal(signal.SIGTERM)
        code = self.client.wait(_LAST_ANSWER_SECONDS)
        assert code == 0, f"the client failed: {self.file.with_suffix('.log').read_text()[-2000:]}"
        return self.entries

    def all_ok(self) -> list[Entry]:
        """The same, and none of them failed."""
        entries = self.finish()
        assert {entry.outcome for entry in entries} == {"ok"}, self.told()
        return entries

    def whole(self) -> list[Entry]:
        """All entries, when everything of its schedule was asked and answered."""
        self.client.wait(_LAST_ANSWER_SECONDS)
        return self.finish()

    def told(self) -> str:
        """Counts and the first few that did not end well, for an assertion's message."""
        counts = Counter(entry.outcome for entry in self.entries)
        bad = [entry for entry in self.entries if entry.outcome != "ok"][:5]
        return f"{dict(counts)} {bad}"


@contextmanager
def asking(cluster: Access, folder: Path, url: str, model: str, *words: str, key: str = "") -> Iterator[Ledger]:
    """A client that asks `model` at `url` (up to /v1) until the block ends or `finish` is called.

    `words` are further flags of ledger_client, such as `--stream`, `--rate`, `20`.
    """
    file = folder / f"ledger-{model}-{len(list(folder.glob('ledger-*.log')))}.jsonl"
    flags = ["--url", url, "--model", model, "--ledger", str(file), *(["--key", key] if key else []), *words]
    client = cluster.start([sys.executable, str(PROGRAM), *flags], file.with_suffix(".log"))
    try:
        yield Ledger(file, client)
    finally:
        if client.poll() is None:
            client.terminate()
            client.wait(_LAST_ANSWER_SECONDS)
