"""What a manifest may ask for and this version does not do yet: refused by name, never ignored in silence."""

from collections.abc import Callable
from dataclasses import dataclass

from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rules import Fault


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A field whose behaviour is not there yet."""

    path: str
    is_asked_for: Callable[[ModelDeployment], bool]
    sentence: str


UNBUILT: tuple[Unbuilt, ...] = ()
"""At present every field is built."""


def faults(md: ModelDeployment, table: tuple[Unbuilt, ...] = UNBUILT) -> list[Fault]:
    """Everything the manifest asks for that is in the table."""
    return [Fault(row.path, row.sentence) for row in table if row.is_asked_for(md)]
