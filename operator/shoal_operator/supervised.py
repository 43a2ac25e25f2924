"""One replica as a supervised process: started, watched, drained, started again; what kubelet is to a pod."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from shoal_api import termination
from shoal_api.replica_config import REPORT_FILE, Report, Stage
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_operator import blueprint as blueprints
from shoal_operator import restarts, run_directory
from shoal_operator.blueprint import Blueprint, Place
from shoal_operator.child import Child, Exit
from shoal_operator.observed import NOT_ANSWERING, Endpoint, Replica, ReplicaState

HOST = "127.0.0.1"
UNANSWERED_PROBES = 3
"""A ready replica is shown as not ready after so many probes without a good answer, as kubelet does."""
DRAIN_MARGIN_SECONDS = 15.0
"""On top of its own drain time; then the tree is ended."""


@dataclass(frozen=True, slots=True)
class Start:
    """Everything one start of the process needs."""

    command: Sequence[str]
    place: Place
    environment: dict[str, str]


@dataclass(slots=True)
class Supervised:
    """The replica's state; times come in as arguments."""

    name: str
    uid: str
    blueprint: Blueprint
    created: datetime
    log: Path
    gpus: tuple[str, ...] = ()
    state: ReplicaState = ReplicaState.FAILED
    since: datetime = field(init=False)
    start_at: datetime | None = field(init=False)
    """When to start the process (again); None while it runs or where it must not."""
    started: datetime = field(init=False)
    stage: str = ""
    tries: int = 0
    """Starts, and those that found no room."""
    bad_runs: int = 0
    last_words: LastWords | None = None
    child: Child | None = None
    place: Place | None = None
    unanswered: int = 0
    was_ready: bool = False
    """In its present run."""
    end_at: datetime | None = None
    """When a draining replica is ended by force."""

    def __post_init__(self) -> None:
        self.since = self.started = self.created
        self.start_at = self.created

    def facts(self) -> Replica:
        """What decisions see of it."""
        waiting_first = self.state is ReplicaState.FAILED and self.tries == 0 and self.last_words is None
        return Replica(
            name=self.name,
            uid=self.uid,
            revision=self.blueprint.revision,
            state=ReplicaState.STARTING if waiting_first else self.state,
            since=self.since,
            created=self.created,
            stage=NOT_ANSWERING if self.state is ReplicaState.STARTING and self.was_ready else self.stage,
            restarts=max(0, self.tries - 1),
            last_words=self.last_words,
            endpoint=Endpoint(HOST, self.place.port) if self.place else None,
        )

    @property
    def is_draining(self) -> bool:
        return self.state is ReplicaState.DRAINING

    def start(self, start: Start, now: datetime) -> None:
        """Start the process."""
        self._leave_place()
        config_file = start.place.directory / "config.json"
        config_file.write_text(blueprints.config(self.blueprint, start.place).model_dump_json(by_alias=True))
        command = [*start.command, "--config", str(config_file)]
        with self.log.open("a") as log:
            log.write(f"--- {now:%Y-%m-%d %H:%M:%S} start {self.tries + 1}: {' '.join(command)}\n")
        self.child = Child(command, start.environment, start.place.directory, self.log)
        self.place = start.place
        self.tries += 1
        self.started, self.start_at, self.unanswered, self.was_ready, self.stage = now, None, 0, False, ""
        self._enter(ReplicaState.STARTING, now)

    def postpone(self, words: LastWords, now: datetime) -> None:
        """The machine has no room for it: counted like a bad run of no length."""
        self.tries += 1
        self._failed(words, now, now)

    def drain(self, now: datetime) -> None:
        """Tell it to go."""
        self._enter(ReplicaState.DRAINING, now)
        self.start_at = None
        self.end_at = now + timedelta(seconds=self.blueprint.drain_seconds + DRAIN_MARGIN_SECONDS)
        if self.child is not None:
            self.child.ask_to_end()

    def look(self, now: datetime) -> bool:
        """Read what happened to the process; True when it has ended since the last look."""
        if self.child is None:
            return False
        self._read_report()
        ended = self.child.exit()
        if ended is None:
            if self.end_at is not None and now >= self.end_at:
                self.child.end_now()
            return False
        words = self._words_of(ended)
        self.child = None
        if not self.is_draining:
            self._failed(words, self.started, now)
        self._leave_place()
        return True

    def answered(self, healthy: bool, now: datetime) -> None:
        """Note the outcome of a probe."""
        if self.child is None or self.is_draining:
            return
        if healthy and self.stage != Stage.DRAINING:
            self.unanswered = 0
            if self.state is ReplicaState.STARTING:
                self.stage, self.was_ready = Stage.READY, True
                self._enter(ReplicaState.READY, now)
            return
        self.unanswered += 1
        if self.state is ReplicaState.READY and (self.unanswered >= UNANSWERED_PROBES or self.stage == Stage.DRAINING):
            self._enter(ReplicaState.STARTING, now)

    def forget(self) -> None:
        """Leave nothing on disk but the log."""
        self._leave_place()

    def _enter(self, state: ReplicaState, now: datetime) -> None:
        if state is not self.state:
            self.state, self.since = state, now

    def _failed(self, words: LastWords, began: datetime, now: datetime) -> None:
        self.last_words = words
        self._enter(ReplicaState.FAILED, now)
        if words.permanent:
            self.start_at = None
            return
        restart = restarts.after(self.bad_runs, began, now)
        self.start_at, self.bad_runs = restart.at, restart.bad_runs

    def _read_report(self) -> None:
        if self.place is None:
            return
        try:
            lines = (self.place.directory / REPORT_FILE).read_text().splitlines()
            self.stage = Report.model_validate(json.loads(lines[-1])).stage
        except (OSError, IndexError, ValueError):  # not there yet, or its last line is half written
            return

    def _words_of(self, ended: Exit) -> LastWords:
        said = None
        if self.place is not None:
            try:
                said = termination.read((self.place.directory / "termination").read_text(errors="replace"))
            except OSError:  # it had no time to write any
                pass
        permanent = ended.code == EXIT_PERMANENT
        if said is not None:
            return LastWords(said.sentence, said.permanent or permanent)
        if ended.signal_name:
            memory = " (the kernel does this when memory runs out)" if ended.signal_name == "SIGKILL" else ""
            how = f"the replica program was ended by {ended.signal_name}{memory}"
        else:
            how = f"the replica program ended with exit code {ended.code}"
        return LastWords(f"{how} and left no word; its output is in {self.log}", permanent)

    def _leave_place(self) -> None:
        if self.place is not None:
            run_directory.remove_scratch(self.place.directory)
            self.place = None
