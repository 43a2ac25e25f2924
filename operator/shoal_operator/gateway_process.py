"""The gateway as a child of `shoal up`: started, asked whether it is ready, started again when it dies."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from shoal_operator import probe, restarts
from shoal_operator.child import Child
from shoal_operator.merging import Gateway

HOST = "127.0.0.1"
_PROBE_TIMEOUT_SECONDS = 0.5
_QUOTED_LINES = 3


class GatewayProcess:
    """One gateway; times come in as arguments."""

    def __init__(
        self,
        command: Sequence[str],
        internal_port: int,
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self._command = command
        self._environment = environment
        self._directory = directory
        self._log = log
        self._child: Child | None = None
        self._started: datetime | None = None
        self._start_at: datetime | None = None
        self._bad_runs = 0
        self.internal_port = internal_port
        self.starts = 0
        self.ready = False
        self.last_words = ""

    @property
    def pid(self) -> int | None:
        """The keeper's, while one runs."""
        return self._child.pid if self._child else None

    @property
    def program_pid(self) -> int | None:
        """The gateway's own, while it runs."""
        return self._child.program_pid if self._child else None

    def addresses(self) -> list[Gateway]:
        """Where its load is heard."""
        return [Gateway("gateway", HOST, self.internal_port, is_ready=True)] if self.ready else []

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)

    def tick(self, now: datetime) -> None:
        """Learn what happened; start it when that is due."""
        if self._child is not None and self._started is not None:
            ended = self._child.exit()
            if ended is None:
                self.ready = self.ready or self._is_ready()
                return
            self._child, self.ready = None, False
            how = ended.signal_name or f"exit code {ended.code}"
            self._ended(f"the gateway ended ({how}): {self._last_lines()}", self._started, now)
        if self._start_at is None or now >= self._start_at:
            self._started, self._start_at = now, None
            self.starts += 1
            try:
                self._child = Child(self._command, self._environment, self._directory, self._log)
            except OSError as error:
                self._ended(f"the gateway cannot be started ({error})", now, now)

    def _ended(self, words: str, began: datetime, now: datetime) -> None:
        self.last_words = words
        restart = restarts.after(self._bad_runs, began, now)
        self._start_at, self._bad_runs = restart.at, restart.bad_runs

    def ask_to_end(self) -> None:
        if self._child is not None:
            self._child.ask_to_end()

    def end_now(self) -> None:
        if self._child is not None:
            self._child.end_now()

    @property
    def has_ended(self) -> bool:
        return self._child is None or self._child.exit() is not None

    def _is_ready(self) -> bool:
        answer = probe.get(HOST, self.internal_port, "/readyz", _PROBE_TIMEOUT_SECONDS)
        return answer is not None and answer.status == 200

    def _last_lines(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return f"see {self._log}"
        return " ".join(line.strip() for line in lines[-_QUOTED_LINES:]) or "it said nothing"
