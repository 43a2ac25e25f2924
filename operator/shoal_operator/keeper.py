"""Keep one program's process tree together: when the program or the keeper's starter dies, nothing of it is left.

Run as a file by a bare interpreter (`python -I -S keeper.py STARTER_PID PROGRAM ARGUMENT…`), so it costs a few
megabytes and imports only the standard library. It is the subreaper of everything below the program: what a killed
program leaves behind comes to the keeper, which ends it and only then itself, with the program's exit status.

SIGTERM and SIGINT are handed on to the program. END ends the whole tree at once; the kernel sends it when the starter
dies.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

END = signal.SIGUSR1

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_EXECUTE = 127


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Orphans below this process come to it instead of to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants(pid: int) -> list[int]:
    """Every process below this one, as far as the process table shows them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended while we looked
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end_tree() -> None:
    """Kill everything below this process, until nothing is left."""
    while True:
        for pid in descendants(os.getpid()):
            kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _start(command: list[str], keeper: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(_CANNOT_EXECUTE)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvp(command[0], command)  # noqa: S606  (no shell: that is the point)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(_CANNOT_EXECUTE)


def main(starter: int, command: list[str]) -> int:
    """Run the program to its end; its exit status, 128 + n where signal n ended it."""
    heard = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, END}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    become_subreaper()
    _prctl(_PR_SET_PDEATHSIG, END)
    if os.getppid() != starter:
        return 128 + END
    program = _start(command, os.getpid())
    while True:
        number = signal.sigwait(heard)
        if number == END:
            end_tree()
            return 128 + END
        if number in (signal.SIGTERM, signal.SIGINT):
            kill(program, signal.SIGTERM)
        status = _reap(program)
        if status is not None:
            end_tree()
            return status if status >= 0 else 128 - status


def _reap(program: int) -> int | None:
    """Collect what ended; the program's exit status if it is among them (negative: the signal)."""
    status = None
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == program:
            status = os.waitstatus_to_exitcode(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
