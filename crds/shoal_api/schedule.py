"""A schedule of replicas: when it begins as a cron expression, in which time zone, for how long, how many at least."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from shoal_api.rules import Kept, Part, matching

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

_VALUES = (
    "[0-5]?[0-9]",
    "([01]?[0-9]|2[0-3])",
    "(0?[1-9]|[12][0-9]|3[01])",
    f"(0?[1-9]|1[0-2]|{'|'.join(MONTHS)})",
    f"([0-7]|{'|'.join(WEEKDAYS)})",
)


def _field(value: str) -> str:
    item = f"(([*]|{value}-{value})(/[1-9][0-9]?)?|{value})"
    return f"{item}(,{item})*"


_CRON = f"^{' +'.join(_field(value) for value in _VALUES)}$"


_ZONE = (
    "^(UTC|(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific)"
    "/[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)?)$"
)


def _known(zone: str) -> str:
    """A CRD cannot hold all zones: of an unknown one the operator tells in the condition, not the API server."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError) as error:  # a folder of zones is an OSError
        sentence = "the time zone database knows no {zone}; give a name of it, such as Europe/Berlin or UTC"
        raise PydanticCustomError("rule", sentence, {"zone": zone, "field": ""}) from error
    return zone


Cron = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    Kept(
        matching(
            _CRON, "five fields: minute, hour, day of the month, month and day of the week, such as 0 8 * * MON-FRI"
        )
    ),
]
TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    Kept(matching(_ZONE, "a name of the time zone database, such as Europe/Berlin or UTC")),
    AfterValidator(_known),
]


class Schedule(Part):
    """A time with more replicas than usual at least."""

    cron: Cron = Field(
        description="When it begins: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday)."
    )
    time_zone: TimeZone = Field(default="UTC", description="Whose clock `cron` reads.")
    duration_seconds: int = Field(ge=60, le=604_800, description="It lasts so long.")
    min_replicas: int = Field(
        ge=1, le=1000, description="Meanwhile never fewer; what scaling.minReplicas says if that is more."
    )
