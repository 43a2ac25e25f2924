"""What keeps a pod from starting, in a sentence that says what to do about it."""

import re
from collections.abc import Iterable, Mapping

from shoal_api.conditions import Reason
from shoal_operator import kinds, pod_status
from shoal_operator.kinds import Manifest
from shoal_operator.observed import Hindrance

_PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_MISSING = frozenset({"CreateContainerConfigError"})
_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_NO_ROOM = re.compile(r"Insufficient |Too many pods")


def of(
    pods: Iterable[Manifest], mount_words: Mapping[str, str], largest_gpus: Mapping[str, int] | None
) -> Hindrance | None:
    """What is in a replica's way: the first of its pods that cannot go on tells."""
    return next((found for pod in pods if (found := _of_pod(pod, mount_words, largest_gpus))), None)


def missing_resources(pod: Manifest) -> frozenset[str]:
    """The GPUs and the like of which the scheduler found too few."""
    messages = [str(c.get("message", "")) for c in pod_status.conditions(pod) if _is_unscheduled(c)]
    return frozenset(name.rstrip(".,") for name in re.findall(r"Insufficient (\S+/\S+)", " ".join(messages)))


def _of_pod(pod: Manifest, mount_words: Mapping[str, str], largest_gpus: Mapping[str, int] | None) -> Hindrance | None:
    status, where = pod.get("status", {}), kinds.namespace(pod)
    since = pod_status.created(pod)
    unscheduled = next((condition for condition in pod_status.conditions(pod) if _is_unscheduled(condition)), None)
    if unscheduled is not None:
        return _unscheduled(pod, unscheduled, largest_gpus)
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _PULLING:
            sentence = (
                f"the image {container['image']} cannot be pulled ({message or reason}): check its name "
                f"(spec.engine.image, or the installation's) and the pull secrets of namespace {where}"
            )
            return Hindrance(Reason.IMAGE_UNAVAILABLE, sentence, since)
        if reason in _MISSING:
            sentence = f"{message}: make it in namespace {where}, or take it out of the manifest"
            return Hindrance(Reason.OBJECT_MISSING, sentence, since)
    words = mount_words.get(kinds.uid(pod))
    if words:
        sentence = f"{words}: make what the volume needs, or change spec.model.source or spec.podTemplate"
        reason = Reason.OBJECT_MISSING if "not found" in words else Reason.VOLUME_UNAVAILABLE
        return Hindrance(reason, sentence, since)
    return None


def _is_unscheduled(condition: Manifest) -> bool:
    return bool(condition["type"] == "PodScheduled" and condition["status"] == "False")


def _unscheduled(pod: Manifest, condition: Manifest, largest_gpus: Mapping[str, int] | None) -> Hindrance:
    # What follows tells about preemption and claims of other kinds, which helps nobody here.
    message = str(condition.get("message", "")).partition(" no new claims")[0]
    message = message.partition(" preemption:")[0].rstrip(" .,")
    since = pod_status.time_of(condition.get("lastTransitionTime")) or pod_status.created(pod)
    if condition.get("reason") == "SchedulingGated":
        return Hindrance(Reason.UNSCHEDULABLE, f"its pods are held back until they are admitted: {message}", since)
    claim = _NO_CLAIM.search(message)
    if claim is not None:
        where = kinds.namespace(pod)
        sentence = f'the claim "{claim.group(1)}" is not in namespace {where}: make it, or name another in the manifest'
        return Hindrance(Reason.OBJECT_MISSING, sentence, since)
    for resource in sorted(missing_resources(pod)):
        if largest_gpus is None:
            break
        asked, most = _asked(pod, resource), largest_gpus.get(resource, 0)
        if asked > most:
            sentence = (
                f"a pod asks for {asked} {resource} and no node has more than {most}: lower spec.resources.gpu, "
                "name another spec.resources.gpuResource, or add such a node"
            )
            return Hindrance(Reason.NO_SUCH_GPU, sentence, since)
    sentence = (
        f"no node takes the pod {kinds.name(pod)} ({message}): add or free a node, or ask for less in spec.resources "
        "and spec.scheduling"
    )
    return Hindrance(Reason.UNSCHEDULABLE, sentence, since, needs_room=bool(_NO_ROOM.search(message)))


def _asked(pod: Manifest, resource: str) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    return sum(int(container.get("resources", {}).get("limits", {}).get(resource, 0)) for container in containers)
