"""What a running cluster remembers in one file, so that any later command finds and ends all of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from localkube.commands import Refused
from localkube.processes import Process

FORMAT = 1


@dataclass(frozen=True, slots=True)
class State:
    """Written before each step that leaves something behind."""

    nodes: tuple[int, ...] = ()
    gpus: int = 0  # on each node
    fake_nodes: int = 0
    processes: tuple[Process, ...] = ()
    made: tuple[str, ...] = ()  # folders that were not there before the start
    sysctls: Mapping[str, str] = field(default_factory=dict)  # machine-wide values from before the start
    stopping: bool = False  # whoever finds this finds a stop that was killed

    def with_process(self, process: Process) -> "State":
        """This state with the process in place of an earlier one of its name."""
        return replace(self, processes=(*(p for p in self.processes if p.name != process.name), process))

    def with_node(self, index: int) -> "State":
        return self if index in self.nodes else replace(self, nodes=(*self.nodes, index))

    def process(self, name: str) -> Process | None:
        return next((process for process in self.processes if process.name == name), None)


def dump(state: State) -> str:
    """The state as text."""
    return json.dumps({"format": FORMAT, **asdict(state)}, indent=2) + "\n"


def parse(text: str, source: str) -> State:
    """The state that this text tells; a file that is no state is refused with its name."""
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise Refused(f"{source} is of another version; run `cluster.py stop`, which works without it")
        return State(
            nodes=tuple(content["nodes"]),
            gpus=content["gpus"],
            fake_nodes=content["fake_nodes"],
            processes=tuple(Process(**process) for process in content["processes"]),
            made=tuple(content["made"]),
            sysctls=content["sysctls"],
            stopping=content.get("stopping", False),
        )
    except (ValueError, TypeError, KeyError) as broken:
        raise Refused(f"{source} is damaged; run `cluster.py stop`, which works without it") from broken


def read(path: Path) -> State | None:
    """The state of the cluster on this machine, or None when there is none."""
    return parse(path.read_text(), str(path)) if path.exists() else None


def write(path: Path, state: State) -> None:
    """Replace the file whole, so that a killed run leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(dump(state))
    draft.rename(path)
