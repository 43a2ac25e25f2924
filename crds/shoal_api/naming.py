"""Names: safe object names at every length, and who gets a model name that two models claim."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from shoal_api.modeldeployment import ModelDeployment

LABEL_LIMIT = 63


def object_name(base: str, *suffixes: str, limit: int = LABEL_LIMIT) -> str:
    """A DNS label of at most `limit` characters made of `base` and `suffixes`, the same for the same input.

    What is too long or not a DNS label is cut and marked with a hash of the whole, so two different inputs never meet.
    """
    tail = "".join(f"-{suffix}" for suffix in suffixes)
    safe = re.sub(r"[^a-z0-9-]+", "-", base.lower()).strip("-")
    if safe == base and len(base + tail) <= limit:
        return base + tail
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    room = limit - len(tail) - len(digest) - 1
    stem = safe[:room].strip("-")
    return (f"{stem}-{digest}" if stem else f"m{digest}") + tail


@dataclass(frozen=True, slots=True)
class Grant:
    """The names that lead to one model, and those its owner chose in vain with their holder's id.

    Nobody chose the alias that comes with a hub's source: who does not get it misses nothing.
    """

    names: tuple[str, ...]
    taken: tuple[tuple[str, str], ...]


def grant(models: Iterable[ModelDeployment]) -> dict[str, Grant]:
    """Who gets which name: the older creationTimestamp keeps it, then namespace/name in order. By model id."""
    holder: dict[str, str] = {}
    grants: dict[str, Grant] = {}
    for md in sorted(models, key=_seniority):
        own, taken = [], []
        for name in md.claimed_names:
            held_by = holder.setdefault(name, md.id)
            if held_by == md.id:
                own.append(name)
            elif name in md.chosen_names:
                taken.append((name, held_by))
        grants[md.id] = Grant(tuple(own), tuple(taken))
    return grants


def _seniority(md: ModelDeployment) -> tuple[bool, float, str]:
    created = md.metadata.creation_timestamp
    return (created is None, created.timestamp() if created else 0.0, md.id)
