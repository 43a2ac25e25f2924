"""Try every policy with many settings on some seeds, and judge the unbeaten ones on seeds held out from that."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from autoscaling import traces
from autoscaling.peers import Hpa, Keda, Knative, KubeAi, RayServe
from autoscaling.policies import Policy, Shoal
from autoscaling.world import simulate
from quantiles import percentile

TARGETS = (7, 10, 13)
USUAL_TARGET = 8
TUNING_SEEDS = (1,)
HELD_OUT_SEEDS = (101, 102)

_MAKERS: Mapping[str, Callable[..., Policy]] = {
    "Shoal": Shoal,
    "HPA": Hpa,
    "KEDA": Keda,
    "Knative": Knative,
    "Ray Serve": RayServe,
    "KubeAI": KubeAi,
}
_TIMES: Mapping[str, tuple[dict[str, float], ...]] = {
    "Shoal": ({"delay": 15}, {"delay": 30}, {"delay": 60}),
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

    def make(self, least: int) -> Policy:
        return _MAKERS[self.policy](self.target, least=least, **dict(self.times))

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


def play(setting: Setting, trace: str, seeds: Iterable[int]) -> Figure:
    """One setting over some seeds; the waits of all of them together."""
    made = [traces.make(trace, seed) for seed in seeds]
    results = [simulate(each, setting.make(each.least_replicas), seed) for seed, each in enumerate(made)]
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


def sweep(trace: str, pool: ProcessPoolExecutor) -> tuple[list[Figure], list[Figure]]:
    """On this trace, judged on held-out seeds: every policy's unbeaten settings, and each as it comes."""
    tried = list(pool.map(play, *zip(*[(s, trace, TUNING_SEEDS) for s in settings(trace)], strict=True)))
    chosen = [
        figure.setting
        for policy in _TIMES
        for figure in unbeaten(figure for figure in tried if figure.setting.policy == policy)
    ]
    plain = as_they_come(trace)
    judged = list(pool.map(play, *zip(*[(s, trace, HELD_OUT_SEEDS) for s in (*chosen, *plain)], strict=True)))
    return judged[: len(chosen)], judged[len(chosen) :]


def cheapest(figures: Iterable[Figure], policy: str, longest_p99: float) -> Figure | None:
    """The cheapest setting of a policy that waits no longer; None where it has none."""
    fitting = [f for f in figures if f.setting.policy == policy and f.p99 <= longest_p99]
    return min(fitting, key=lambda f: f.replica_seconds, default=None)
