"""The door to status files: one per run, replaced whole at every change."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from shoal_operator import run_directory, settings
from shoal_operator.run_directory import STATUS_FILE
from shoal_operator.status_report import UpReport


def write(root: Path, report: UpReport) -> None:
    run_directory.write_whole(root / STATUS_FILE, report.model_dump_json(by_alias=True, indent=1))


def read_all(environment: Mapping[str, str]) -> tuple[list[UpReport], list[Path]]:
    """The reports of every `shoal up` of this user that runs, and the folders of those that did not clear up."""
    running: list[UpReport] = []
    dead: list[Path] = []
    runs = settings.runs(settings.home(environment))
    for file in sorted(runs.glob(f"*/{STATUS_FILE}")):
        try:
            report = UpReport.model_validate_json(file.read_text())
        except (FileNotFoundError, ValidationError):  # ended while we looked, or written by another version
            continue
        if run_directory.is_held(file.parent):
            running.append(report)
        else:
            dead.append(file.parent)
    return running, dead


def last_lines(file: Path, count: int) -> list[str]:
    """The end of a log; nothing where it is gone."""
    try:
        with file.open(errors="replace") as lines:
            return [line.rstrip("\n") for line in deque(lines, count)]
    except OSError:
        return []
