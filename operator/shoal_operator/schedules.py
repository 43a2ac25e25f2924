"""Decide how many replicas a model has at least now: by its schedules, whose cron expressions read a zone's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from shoal_api.scaling import Scaling
from shoal_api.schedule import MONTHS, WEEKDAYS, Schedule

_MINUTES, _HOURS, _DAYS, _MONTHS = range(60), range(24), range(1, 32), range(1, 13)
_WEEKDAYS = range(7)


@dataclass(frozen=True, slots=True)
class Floor:
    """The fewest replicas that the manifest allows at one moment."""

    replicas: int
    because: str = ""
    """Which schedule raises it; empty: none does."""
    look_again_after: float | None = None
    """When that may be another number."""


@dataclass(frozen=True, slots=True)
class Cron:
    """What a cron expression means."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both kinds of day are restricted: then one that fits is enough, as cron has always had it."""

    def is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either_day else (of_month and of_week)


def floor(scaling: Scaling, now: datetime) -> Floor:
    """`minReplicas`, or what the schedule with the most says that holds now."""
    if not scaling.schedules:
        return Floor(scaling.min_replicas)
    again = 60.0 - now.second - now.microsecond / 1e6
    least, because = scaling.min_replicas, ""
    for at, schedule in enumerate(scaling.schedules):
        until = _until(schedule, now)
        if until is None:
            continue
        again = min(again, (until - now).total_seconds())
        if schedule.min_replicas > least:
            least = schedule.min_replicas
            end = f"{until.astimezone(ZoneInfo(schedule.time_zone)):%a %H:%M}"
            because = f"scaling.schedules[{at}] wants at least {least} replicas until {end} ({schedule.time_zone})"
    return Floor(least, because, again)


def _until(schedule: Schedule, now: datetime) -> datetime | None:
    """When it ends, where it holds now."""
    lasts = timedelta(seconds=schedule.duration_seconds)
    begun = last_begin(read(schedule.cron), ZoneInfo(schedule.time_zone), now, lasts)
    return begun + lasts if begun is not None else None


def last_begin(cron: Cron, zone: ZoneInfo, now: datetime, lasts: timedelta) -> datetime | None:
    """The last moment of the expression that is less than `lasts` ago.

    A time that the clock skips counts as if it had not been set yet; one that comes twice counts the first time.
    """
    today = now.astimezone(zone).date()
    for back in range(lasts.days + 2):
        day = today - timedelta(days=back)
        if cron.is_on(day):
            for hour in reversed(cron.hours):
                for minute in reversed(cron.minutes):
                    at = datetime.combine(day, time(hour, minute), zone).astimezone(UTC)
                    if at <= now:
                        return at if at > now - lasts else None
    return None


@lru_cache(maxsize=1024)
def read(expression: str) -> Cron:
    """The five fields; the treaty has refused everything that is none."""
    minute, hour, day, month, weekday = expression.split()
    return Cron(
        tuple(sorted(_values(minute, _MINUTES))),
        tuple(sorted(_values(hour, _HOURS))),
        frozenset(_values(day, _DAYS)),
        frozenset(_values(month, _MONTHS, MONTHS)),
        frozenset(_values(weekday, _WEEKDAYS, WEEKDAYS)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )


def _values(field: str, allowed: range, names: Sequence[str] = ()) -> set[int]:
    """Every value of one field; a range that ends before it begins goes on at the beginning."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            values = list(allowed)
        else:
            first, _, last = span.partition("-")
            begin, end = (_value(word, allowed, names) for word in (first, last or first))
            values = _from(begin, end, allowed)
        found.update(values[:: int(step or 1)])
    return found


def _value(word: str, allowed: range, names: Sequence[str]) -> int:
    return allowed.start + names.index(word) if word in names else int(word)


def _from(begin: int, end: int, allowed: range) -> list[int]:
    """All values from one to the other; Sunday is 0 and also 7."""
    values = (
        list(range(begin, end + 1)) if begin <= end else [*range(begin, allowed.stop), *range(allowed.start, end + 1)]
    )
    return [value % 7 for value in values] if allowed is _WEEKDAYS else values
