"""Decide which core runs what, so that the measured program never shares its core with the load."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """`peer`: what is measured. `engines`: one core for each of the two stand-in engines. `load`: the load tools."""

    peer: int
    engines: tuple[int, int]
    load: tuple[int, ...]

    @property
    def words(self) -> str:
        engines = " and ".join(map(str, sorted(set(self.engines))))
        load = ", ".join(map(str, self.load))
        if self.peer in self.load:
            return f"everything shares core {self.peer}: ceilings and latencies tell little"
        shared = (
            " (shared: a ceiling near direct's is that of engine and load)" if set(self.engines) & {*self.load} else ""
        )
        return (
            f"what is measured has core {self.peer} to itself; engines on core {engines}, load on core {load}{shared}"
        )


_MOST_LOAD_CORES = 4


def place(cores: Sequence[int]) -> Placement:
    """The best use of the cores that this process may run on."""
    first, *others = sorted(cores)
    if not others:
        return Placement(first, (first, first), (first,))
    if len(others) == 1:
        return Placement(first, (others[0], others[0]), (others[0],))
    if len(others) == 2:
        return Placement(first, (others[0], others[0]), (others[1],))
    return Placement(first, (others[0], others[1]), tuple(others[2 : 2 + _MOST_LOAD_CORES]))


def pinned(words: Sequence[str], *cores: int) -> list[str]:
    """A command that keeps to these cores and ends with the process that started it."""
    listed = ",".join(map(str, sorted(set(cores))))
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", listed, *words]
