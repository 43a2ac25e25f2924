"""Decide which engine a replica hosts: vLLM, or on machines without one the simulator behind the same door."""

from collections.abc import Mapping

VARIABLE = "SHOAL_REPLICA_ENGINE"
SIMULATOR = "simulator"


def is_simulated(variables: Mapping[str, str]) -> bool:
    """Only an image can say so; a manifest may not set the variable."""
    return variables.get(VARIABLE) == SIMULATOR


def module(variables: Mapping[str, str]) -> str:
    """The module with `parse` and `Engine`, to be imported late: vLLM takes seconds, and may be absent."""
    return f"{__package__}.{'simulated_engine' if is_simulated(variables) else 'engine'}"
