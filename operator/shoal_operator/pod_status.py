"""What one pod's manifest says: its state, its conditions, its times."""

import re
from datetime import datetime
from typing import Any

from shoal_api import labels, termination
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_operator import kinds
from shoal_operator.kinds import Manifest
from shoal_operator.pod_template import ENGINE


def created(pod: Manifest) -> datetime:
    """When it was made."""
    return moment(pod["metadata"]["creationTimestamp"])


def rank(pod: Manifest) -> int:
    """Which pod of its gang it is; 0 where it is the only one."""
    text = kinds.label(pod, labels.RANK)
    return int(text) if text.isdecimal() else 0


def size(pod: Manifest) -> int:
    """Of how many pods its replica is made."""
    found = re.search(r'"nodes":\s*(\d+)', kinds.annotation(pod, labels.REPLICA_CONFIG))
    return int(found.group(1)) if found else 1


def conditions(pod: Manifest) -> list[Manifest]:
    """All of them."""
    found: list[Manifest] = pod.get("status", {}).get("conditions", [])
    return found


def condition(pod: Manifest, kind: str) -> tuple[bool, datetime | None]:
    """Whether this one is true, and since when it is as it is."""
    for each in conditions(pod):
        if each["type"] == kind:
            return each["status"] == "True", time_of(each.get("lastTransitionTime"))
    return False, None


def engine(pod: Manifest) -> Manifest:
    """The state of the container that the replica runs in."""
    containers = pod.get("status", {}).get("containerStatuses", [])
    return next((container for container in containers if container["name"] == ENGINE), {})


def terminated(pod: Manifest) -> Manifest:
    """How that container ended, now or the last time; empty where it did not."""
    container = engine(pod)
    ended: Manifest = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    return ended or {}


def last_words(pod: Manifest) -> LastWords | None:
    """Why its engine's container ended the last time."""
    ended = terminated(pod)
    if not ended:
        return None
    code = int(ended.get("exitCode", 0))
    said = termination.read(str(ended.get("message", "")))
    if said is not None:
        return LastWords(said.sentence, said.permanent or code == EXIT_PERMANENT)
    memory = ": it used more memory than spec.resources.memory allows" if ended.get("reason") == "OOMKilled" else ""
    how = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
    sentence = (
        f"the replica program ended {how}{memory} and left no word; see `kubectl logs --previous {kinds.name(pod)}`"
    )
    return LastWords(sentence, code == EXIT_PERMANENT)


def time_of(text: Any) -> datetime | None:
    """A time as Kubernetes writes it, where it did."""
    return moment(text) if text else None


def moment(text: Any) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(str(text))
