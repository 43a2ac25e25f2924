"""The door to processes: start a program under a keeper, signal it, learn how it ended, leave no stray behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from shoal_operator import keeper

_KEEPER = str(Path(keeper.__file__))
_SIGNALLED = 128


def kept(command: Sequence[str]) -> list[str]:
    """The command line that runs a program below a keeper which ends with this process."""
    return [sys.executable, "-I", "-S", _KEEPER, str(os.getpid()), *command]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended."""

    code: int

    @property
    def signal_name(self) -> str:
        """The signal that ended it; empty where it ended by itself."""
        number = self.code - _SIGNALLED
        try:
            return signal.Signals(number).name if number > 0 else ""
        except ValueError:
            return ""


class Child:
    """A program under its keeper."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
        self._program_pid: int | None = None
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                kept(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,  # a Ctrl-C of the terminal reaches us alone
            )

    @property
    def pid(self) -> int:
        """The keeper's."""
        return self._keeper.pid

    @property
    def program_pid(self) -> int | None:
        """The program's own; None before it began and after it ended."""
        if self._program_pid is None:
            try:
                below = psutil.Process(self._keeper.pid).children()
            except psutil.NoSuchProcess:
                return None
            self._program_pid = below[0].pid if below else None
        return self._program_pid

    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        code = self._keeper.poll()
        if code is None:
            return None
        return Exit(code if code >= 0 else _SIGNALLED - code)

    def ask_to_end(self) -> None:
        """Ask the program to end in its own time."""
        if self._keeper.poll() is None:
            self._keeper.send_signal(signal.SIGTERM)

    def end_now(self) -> None:
        """End the program and everything below it at once."""
        if self._keeper.poll() is None:
            self._keeper.send_signal(keeper.END)


def end_strays(kept: Iterable[int]) -> list[int]:
    """End what came to this process because its keeper was killed: every child that is not one of `kept`."""
    known = set(kept)
    strays = [child.pid for child in psutil.Process().children() if child.pid not in known]
    for stray in strays:
        for pid in (*keeper.descendants(stray), stray):
            keeper.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(stray, os.WNOHANG)
        except ChildProcessError:  # reaped by its own Popen
            pass
    return strays
