"""Try every policy with many settings on some seeds, and judge the unbeaten ones on seeds held out from that."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from autoscaling import traces
from autoscaling.foresight import Foresight
from autoscaling.peers import Hpa, Keda, Knative, KubeAi, RayServe
from autoscaling.policies import Policy, Shoal
from autoscaling.traces import Trace
from autoscaling.world import Machine, simulate
from quantiles import percentile

TARGETS = (6, 8, 10, 12, 14)
USUAL_TARGET = 8
TUNING_SEEDS = (1, 2)
HELD_OUT_SEEDS = (101, 102, 103)
MACHINES: Mapping[str, Machine] = {
    "usual": Machine(),
    "slow start": Machine(cold_start_seconds=(150.0, 200.0)),
    "short answers": Machine(step_seconds=0.008, step_seconds_per_request=0.0005, prompt_tokens_per_second=30_000.0),
}
"""All but the first are seen only by settings that were chosen on the first."""
OTHER_MACHINES = tuple(name for name in MACHINES if name != "usual")
OTHER_TRACES = ("spike", "diurnal")
FORESIGHT = "foresight"

_MAKERS: Mapping[str, Callable[..., Policy]] = {
    "Shoal": Shoal,
    "HPA": Hpa,
    "KEDA": Keda,
    "Knative": Knative,
    "Ray Serve": RayServe,
    "KubeAI": KubeAi,
}
_TIMES: Mapping[str, tuple[dict[str, float], ...]] = {
    "Shoal": ({"delay": 15}, {"delay": 30}, {"delay": 60}, {"delay": 300}),
    "HPA": ({"stabilisation": 0.0}, {"stabilisation": 60.0}, {"stabilisation": 300.0}),
    "KEDA": (
        {"stabilisation": 60.0, "polling": 30.0},
        {"stabilisation": 60.0, "polling": 5.0},
        {"stabilisation": 300.0, "polling": 30.0},
    ),
    "Knative": tuple(
        {"utilisation": 1.0, "window": window, "delay": delay}
        for window, delay in ((15.0, 0.0), (30.0, 0.0), (60.0, 0.0), (60.0, 60.0))
    ),
    "Ray Serve": tuple(
        {"upscale_delay": up, "downscale_delay": down, "look_back": back}
        for up, down, back in ((2.0, 30.0, 10.0), (2.0, 60.0, 10.0), (10.0, 60.0, 30.0), (30.0, 600.0, 30.0))
    ),
    "KubeAI": ({"window": 60.0, "delay": 30.0}, {"window": 60.0, "delay": 10.0}, {"window": 600.0, "delay": 30.0}),
}
AS_IT_COMES: Mapping[str, dict[str, float]] = {name: {} for name in _MAKERS}
"""Nothing but the target is set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy with everything that was chosen for it."""

    policy: str
    target: int
    times: tuple[tuple[str, float], ...]

    def make(self, trace: Trace, machine: Machine) -> Policy:
        if self.policy == FORESIGHT:
            return Foresight(trace, machine, self.target)
        return _MAKERS[self.policy](self.target, least=trace.least_replicas, **dict(self.times))

    def __str__(self) -> str:
        return ", ".join([f"target {self.target}", *(f"{name} {value:g}" for name, value in self.times)])


@dataclass(frozen=True, slots=True)
class Figure:
    """What a setting came to on one trace, over some seeds."""

    setting: Setting
    trace: str
    replica_seconds: float
    p50: float
    p99: float
    lost: int
    turns: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def settings(trace: str) -> list[Setting]:
    """Everything that is tried on this trace. HPA does not go to zero; above zero KEDA is HPA."""
    without = "HPA" if trace in traces.AT_ZERO else "KEDA"
    return [
        Setting(policy, target, tuple(times.items()))
        for policy, choices in _TIMES.items()
        if policy != without
        for target in TARGETS
        for times in choices
    ]


def as_they_come(trace: str) -> list[Setting]:
    without = "HPA" if trace in traces.AT_ZERO else "KEDA"
    return [
        Setting(policy, USUAL_TARGET, tuple(times.items()))
        for policy, times in AS_IT_COMES.items()
        if policy != without
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """All figures of one trace on held-out seeds."""

    swept: list[Figure]
    """The settings that no other of the same policy beat on the tuning seeds."""
    plain: list[Figure]
    """Every policy as it comes."""
    bound: list[Figure]
    """What knowing the arrivals beforehand would bring."""
    elsewhere: dict[str, list[Figure]] = field(default_factory=dict)
    """The swept settings on machines for which they were not chosen."""


def play(setting: Setting, trace: str, seeds: Iterable[int], machine_name: str = "usual") -> Figure:
    """One setting over some seeds; the waits of all of them together."""
    made, machine = [traces.make(trace, seed) for seed in seeds], MACHINES[machine_name]
    results = [simulate(each, setting.make(each, machine), seed, machine) for seed, each in enumerate(made)]
    waits = sorted(wait for result in results for wait in result.waits)
    return Figure(
        setting,
        trace,
        sum(result.replica_seconds for result in results) / len(results),
        percentile(waits, 0.5),
        percentile(waits, 0.99),
        sum(result.lost for result in results),
        sum(result.turns for result in results),
    )


def unbeaten(figures: Iterable[Figure]) -> list[Figure]:
    """Those for which none is as cheap and waits as short, cheapest first."""
    found: list[Figure] = []
    for figure in sorted(figures, key=lambda f: (f.replica_seconds, f.p99)):
        if not found or figure.p99 < found[-1].p99:
            found.append(figure)
    return found


def sweep(trace: str, pool: ProcessPoolExecutor) -> Judged:
    """On this trace, judged on held-out seeds: every policy's unbeaten settings, each as it comes, and foresight."""

    def played(chosen: Iterable[Setting], seeds: tuple[int, ...], machine: str = "usual") -> list[Figure]:
        return list(pool.map(play, *zip(*[(s, trace, seeds, machine) for s in chosen], strict=True)))

    tried = played(settings(trace), TUNING_SEEDS)
    chosen = [
        figure.setting
        for policy in _TIMES
        for figure in unbeaten(figure for figure in tried if figure.setting.policy == policy)
    ]
    return Judged(
        played(chosen, HELD_OUT_SEEDS),
        played(as_they_come(trace), HELD_OUT_SEEDS),
        played([Setting(FORESIGHT, target, ()) for target in TARGETS], HELD_OUT_SEEDS),
        {name: played(chosen, HELD_OUT_SEEDS[:2], name) for name in OTHER_MACHINES if trace in OTHER_TRACES},
    )


def cheapest(figures: Iterable[Figure], policy: str, longest_p99: float) -> Figure | None:
    """The cheapest setting of a policy that waits no longer; None where it has none."""
    fitting = [f for f in figures if f.setting.policy == policy and f.p99 <= longest_p99]
    return min(fitting, key=lambda f: f.replica_seconds, default=None)
