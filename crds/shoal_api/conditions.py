"""Conditions of a ModelDeployment: every type and reason is a constant, its meaning written here once."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """The model answers, or is at zero on purpose and will answer when asked."""
    ACTIVE = "Active"
    """At least one replica is wanted; outside Ready: a model at zero is Ready and not Active."""
    PROGRESSING = "Progressing"
    """Something is under way: replicas start, a revision replaces another."""
    SCALING_ACTIVE = "ScalingActive"
    """The number of replicas follows the load."""
    NAMES_GRANTED = "NamesGranted"
    """Every name that the manifest claims leads to this model."""


class Reason(StrEnum):
    """Why a condition is as it is. docs/reference/conditions.md is made of these docstrings."""

    REPLICAS_READY = "ReplicasReady"
    """Ready: as many replicas as wanted answer."""
    SOME_REPLICAS_READY = "SomeReplicasReady"
    """Ready: fewer replicas than wanted answer; the others are on their way."""
    AT_ZERO = "AtZero"
    """Ready, not Active: no replica is wanted."""
    STARTING = "Starting"
    """Not Ready yet, Progressing: the first replicas load the model."""
    RESTARTING = "Restarting"
    """Not Ready, Progressing: a replica ended or fell silent and is started again; the message carries its sentence."""
    CANNOT_START = "CannotStart"
    """Not Ready: a replica gave up for a cause that repeating cannot heal; the message carries its own sentence.
    Change the manifest."""
    UNSCHEDULABLE = "Unschedulable"
    """Not Ready, Progressing: no node has room for a replica's pod; the message carries the scheduler's words."""
    NO_SUCH_GPU = "NoSuchGpu"
    """Not Ready, Progressing: no node of the cluster has as many of `resources.gpuResource` as one pod asks for."""
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    """Not Ready, Progressing: the image of a replica cannot be pulled; the message names it and tells why."""
    OBJECT_MISSING = "ObjectMissing"
    """Not Ready, Progressing: a Secret, ConfigMap or claim that a replica needs is not there; the message names it.
    The replica goes on as soon as it is made."""
    VOLUME_UNAVAILABLE = "VolumeUnavailable"
    """Not Ready, Progressing: a volume of a replica cannot be mounted on its node; the message carries kubelet's words.
    """
    NAME_OCCUPIED = "NameOccupied"
    """Not Ready: an object with the name that one of the model's own would have belongs to somebody else."""
    INVALID_SPEC = "InvalidSpec"
    """Not Ready: the manifest asks for what cannot be; the message names the field."""
    NOT_BUILT = "NotBuilt"
    """Not Ready: the manifest asks for what this version of Shoal does not do yet; the message names the field."""
    ROLLING_OUT = "RollingOut"
    """Progressing: replicas of an older revision are being replaced."""
    CANARY_WAITS = "CanaryWaits"
    """Progressing: the canaries of a new revision answer beside the old one; `shoal rollout promote` lets it go on."""
    COMPLETE = "Complete"
    """Not Progressing: everything is as the manifest wishes."""
    FIXED_REPLICAS = "FixedReplicas"
    """Not ScalingActive: `spec.replicas` names the number."""
    DEFAULT_REPLICAS = "DefaultReplicas"
    """Not ScalingActive: neither `spec.replicas` nor `spec.scaling` is given; one replica is wanted."""
    FOLLOWS_LOAD = "FollowsLoad"
    """ScalingActive: as many replicas are wanted as the load needs."""
    WOKEN = "Woken"
    """ScalingActive: the first request came to a model at zero; the message tells how many waited."""
    LOAD_ROSE = "LoadRose"
    """ScalingActive: the load was over the target of the replicas wanted before: for two seconds where somebody waited
    or it was a quarter over it, else for twenty. More are wanted."""
    LOAD_FELL = "LoadFell"
    """ScalingActive: for the whole delay fewer replicas would have done; fewer are wanted."""
    IDLE = "Idle"
    """ScalingActive: nobody asked for `scaling.idleSeconds`; no replica is wanted."""
    BOUNDS_CHANGED = "BoundsChanged"
    """ScalingActive: the number wanted lay outside `scaling.minReplicas` and `maxReplicas` as they are now."""
    SCHEDULED = "Scheduled"
    """ScalingActive: one of `scaling.schedules` wants more replicas at least than the load needs; the message tells
    which and until when."""
    HELD_BY_WINDOW = "HeldByWindow"
    """ScalingActive: fewer replicas would do just now, but not on the average of the last half minute."""
    HELD_BY_DELAY = "HeldByDelay"
    """ScalingActive: fewer replicas would do; they go when that stays so for `scaling.scaleDownDelaySeconds`."""
    HELD_UNTIL_IDLE = "HeldUntilIdle"
    """ScalingActive: nobody asks; the last replica goes when that stays so for `scaling.idleSeconds`."""
    AT_MAXIMUM = "AtMaximum"
    """ScalingActive: the load needs more replicas than `scaling.maxReplicas`."""
    NO_LOAD_DATA = "NoLoadData"
    """Not ScalingActive: no gateway has told its load yet; the number of replicas stays as it is."""
    GATEWAY_SILENT = "GatewaySilent"
    """Not ScalingActive: a gateway that is Ready does not tell its load; more replicas may come, none goes."""
    ALL_GRANTED = "AllGranted"
    """NamesGranted: no other model claims one of the names."""
    NAME_TAKEN = "NameTaken"
    """Not NamesGranted: an older model holds one of the names; the message tells which and who."""


HOPELESS = frozenset({Reason.CANNOT_START, Reason.INVALID_SPEC, Reason.NOT_BUILT})
"""Reasons of Ready=False that waiting does not heal: requests get the message at once while no replica is ready."""


class Condition(BaseModel):
    """One condition, in the shape of Kubernetes' metav1.Condition."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(min_length=1, max_length=1024)
    message: str = Field(default="", max_length=32_768)
    observed_generation: int = 0
    last_transition_time: datetime
