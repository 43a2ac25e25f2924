"""The door to processes: who lives below this one, and ending all of them."""

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STEP_SECONDS = 0.05
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (POSIX shared memory has no other place)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine; the start time tells it from a later one with the same number."""

    pid: int
    parent: int
    started: int
    state: str
    name: str

    @property
    def is_zombie(self) -> bool:
        return self.state in "ZX"


def become_subreaper() -> None:
    """Orphans below this process become its children, so that none can be lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_me_when_parent_dies(number: signal.Signals) -> None:
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def look_up(pid: int) -> Process | None:
    """The process with this number, if there is one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), int(fields[19]), fields[0], name)


def is_alive(pid: int, started: int) -> bool:
    """Whether it is still that very process."""
    process = look_up(pid)
    return process is not None and process.started == started and not process.is_zombie


def descendants(root: int) -> list[Process]:
    """Everything below `root`, at any depth."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (process := look_up(int(entry.name))) is not None:
            children.setdefault(process.parent, []).append(process)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found


def reap() -> dict[int, int]:
    """Collect the dead children of this process: exit codes by pid (negative: the signal that ended it)."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def shared_memory_below(root: int) -> set[Path]:
    """The named shared memory that the processes below `root` have mapped; it outlives a process that is killed."""
    found: set[Path] = set()
    for process in descendants(root):
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue  # it ended meanwhile
        for line in maps.splitlines():
            _, found_it, name = line.partition(f" {_SHARED_MEMORY}/")
            if found_it and not name.endswith("(deleted)"):
                found.add(_SHARED_MEMORY / name)
    return found


def end_all_below(
    root: int,
    *,
    politely: frozenset[int] = frozenset(),
    polite_seconds: float = 0,
    give_up_seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> bool:
    """End every process below `root`, first asking `politely` and those below them. False when something would not die.

    The asked ones get `polite_seconds`; what is left then, and everything else, is killed.
    """
    begun = clock()
    asked = _with_descendants(root, politely)
    for process in asked:
        _send(process.pid, signal.SIGTERM)
    while clock() < begun + polite_seconds and any(is_alive(process.pid, process.started) for process in asked):
        reap()
        sleep(_STEP_SECONDS)
    while True:
        reap()
        # Zombies count: one whose threads are still ending holds its port and its memory.
        alive = descendants(root)
        if not alive:
            return True
        if clock() > begun + give_up_seconds:
            return False
        for process in alive:
            _send(process.pid, signal.SIGKILL)
        sleep(_STEP_SECONDS)


def _with_descendants(root: int, pids: frozenset[int]) -> list[Process]:
    found = {process.pid: process for process in descendants(root) if process.pid in pids}
    for pid in tuple(found):
        found |= {process.pid: process for process in descendants(pid)}
    return list(found.values())


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it was quicker
