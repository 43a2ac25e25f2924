"""Start a program in a process group of its own, see what it costs (CPU, memory, children included), end it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

_TICKS = os.sysconf("SC_CLK_TCK")
_SCHEDULERS_CLOCK = 2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TERM_SECONDS = 5
_BURIAL_SECONDS = 5


class DidNotStart(Exception):
    """A program ended or stayed silent where it should have served; the text says what its log ends with."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat. `ended_ticks`: CPU of its children that have ended."""

    pid: int
    state: str
    parent: int
    group: int
    ended_ticks: int
    pages: int


def read_stat(line: str) -> Stat:
    # A program's name may hold spaces and brackets; what follows the last bracket are plain fields, the third first.
    head, _, rest = line.rpartition(")")
    fields = rest.split()
    ended = int(fields[13]) + int(fields[14])
    return Stat(int(head.split()[0]), fields[0], int(fields[1]), int(fields[2]), ended, int(fields[21]))


def own_cpu_seconds(pid: int) -> float:
    """CPU time of a process and of all threads that it ever had, to the nanosecond; ticks are 10 ms."""
    try:
        # What clock_getcpuclockid(3) gives; Python has it for threads only.
        return time.clock_gettime(~pid << 3 | _SCHEDULERS_CLOCK)
    except OSError:
        return 0.0  # it ended: now it is among its parent's ended children


def family(stats: Sequence[Stat], pid: int) -> list[Stat]:
    """A process, everything below it, and what is left of its group."""
    found = {stat.pid: stat for stat in stats if stat.pid == pid or stat.group == pid}
    grew = True
    while grew:
        below = {stat.pid: stat for stat in stats if stat.parent in found and stat.pid not in found}
        found |= below
        grew = bool(below)
    return list(found.values())


def _all_stats() -> list[Stat]:
    stats = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stats.append(read_stat((folder / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return stats


class MeasuredProcess:
    """One running program, the leader of its own group."""

    def __init__(self, words: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        found = family(_all_stats(), self.pid)
        return sum(own_cpu_seconds(stat.pid) + stat.ended_ticks / _TICKS for stat in found)

    def memory_bytes(self) -> int:
        return sum(stat.pages for stat in family(_all_stats(), self.pid)) * _PAGE

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for a fact about the program."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None:
                raise DidNotStart(f"it ended with status {self._process.returncode}; {self._last_words()}")
            if time.monotonic() > deadline:
                raise DidNotStart(f"it did not serve within {seconds:.0f} s; {self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._signal(signal.SIGTERM, only_leader=True)
        try:
            self._process.wait(timeout=_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL, only_leader=False)
        self._process.wait()
        deadline = time.monotonic() + _BURIAL_SECONDS
        while any(stat.group == self.pid and stat.state != "Z" for stat in _all_stats()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"something of process group {self.pid} does not die")
            time.sleep(0.01)

    def _signal(self, number: signal.Signals, *, only_leader: bool) -> None:
        try:
            if only_leader:
                self._process.send_signal(number)
            else:
                os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # nothing is left of it

    def _last_words(self) -> str:
        return "its log ends: " + self._log.read_text(errors="replace").strip()[-600:]


def answers(url: str) -> bool:
    """Whether a GET of this address gets any HTTP answer."""
    try:
        with urlopen(url, timeout=2):  # noqa: S310  (loopback)
            return True
    except HTTPError as error:
        return error.code < 500
    except (URLError, OSError):
        return False
