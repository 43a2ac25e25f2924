"""Decide what of a model's small objects must be written again, and which of its old revisions are kept."""

from collections.abc import Sequence
from typing import Any

from shoal_api import labels
from shoal_operator import kinds
from shoal_operator.kinds import Manifest

KEPT_REVISIONS = 10


def to_apply(wished: Sequence[Manifest], found: Sequence[Manifest]) -> list[Manifest]:
    """Those that are not there or differ in something that we set. What others added to them stays."""
    present = {(manifest["kind"], kinds.name(manifest)): manifest for manifest in found}
    return [manifest for manifest in wished if not _is_part(manifest, present.get(_key(manifest)))]


def next_number(records: Sequence[Manifest], revision: str) -> int | None:
    """The number that makes this revision the newest wish; None where it is that already."""
    numbers = {kinds.label(record, labels.REVISION): int(record.get("revision", 0)) for record in records}
    newest = max(numbers.values(), default=0)
    if numbers.get(revision) == newest:
        return None
    return newest + 1


def forgotten(records: Sequence[Manifest], pods: Sequence[Manifest], revision: str) -> list[Manifest]:
    """Revisions that nobody will come back to: the oldest beyond KEPT_REVISIONS, without pods, not the last that worked
    and were no canaries."""
    by_age = sorted(records, key=lambda record: int(record.get("revision", 0)), reverse=True)
    in_use = {kinds.label(pod, labels.REVISION) for pod in pods} | {revision}
    proven = [
        record
        for record in by_age
        if kinds.annotation(record, labels.PROVEN) == "true" and not kinds.annotation(record, labels.CANARY)
    ]
    kept = {kinds.name(record) for record in (*by_age[:KEPT_REVISIONS], *proven[:2])}
    return [
        record
        for record in by_age
        if kinds.label(record, labels.REVISION) not in in_use and kinds.name(record) not in kept
    ]


def _key(manifest: Manifest) -> tuple[str, str]:
    return (manifest["kind"], kinds.name(manifest))


def _is_part(wished: Any, found: Any) -> bool:
    """Whether everything wished for is found: an API server adds defaults, others add labels."""
    if isinstance(wished, dict):
        return isinstance(found, dict) and all(_is_part(value, found.get(key)) for key, value in wished.items())
    if isinstance(wished, list):
        return (
            isinstance(found, list)
            and len(wished) == len(found)
            and all(_is_part(one, other) for one, other in zip(wished, found, strict=True))
        )
    return bool(wished == found)
