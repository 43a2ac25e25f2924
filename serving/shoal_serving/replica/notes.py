"""What the processes of one replica tell the program at their top: lines in files of the replica's directory."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shoal_api.replica_config import REPORT_FILE, Report, Stage

NOTES_FILE = "notes.jsonl"

ACTOR = "the Serve actor"
ENGINE_CORE = "the engine core"


@dataclass(frozen=True, slots=True)
class Vital:
    """A process without which the replica is dead."""

    pid: int
    what: str


@dataclass(frozen=True, slots=True)
class Died:
    """A process of the replica gave up; `text` is what it knows of the cause."""

    during: str
    text: str
    is_refusal: bool
    """The text is a sentence already, and starting again cannot help."""
    is_sentence: bool = False
    """The text is a sentence already; starting again may help."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The self-test succeeded."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Joined:
    """This rank has become part of its gang."""


Note = Vital | Died | Serving | Joined
_KINDS: dict[str, Callable[..., Note]] = {kind.__name__: kind for kind in (Vital, Died, Serving, Joined)}


class Notebook:
    """Both files, for writing by any process of the replica; a line is written in one piece."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._reports = directory / REPORT_FILE
        self._notes = directory / NOTES_FILE
        self._now = now

    def report(self, stage: Stage, sentence: str = "") -> None:
        self._append(
            self._reports, Report(stage=stage, at=self._now(), sentence=sentence).model_dump_json(by_alias=True)
        )

    def last_stage(self) -> Stage:
        """Where the replica is by its own report."""
        return self.reports()[-1].stage

    def reports(self) -> list[Report]:
        """All that was reported, earlier runs included."""
        return [Report.model_validate_json(line) for line in self._reports.read_text().splitlines()]

    def note(self, note: Note) -> None:
        self._append(self._notes, json.dumps({"kind": type(note).__name__, **asdict(note)}))

    def forget_notes(self) -> None:
        """An earlier run of this replica's container left its own; its report stays, for whoever reads the story."""
        self._notes.unlink(missing_ok=True)

    @staticmethod
    def _append(file: Path, line: str) -> None:
        with file.open("a") as stream:
            stream.write(line + "\n")


class NoteReader:
    """The notes that came since the last look."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / NOTES_FILE
        self._offset = 0

    def new(self) -> list[Note]:
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_parse(json.loads(line)) for line in whole.splitlines()]


def _parse(fields: dict[str, Any]) -> Note:
    return _KINDS[fields.pop("kind")](**fields)
