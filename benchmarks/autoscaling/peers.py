"""The policies of other projects, each written from its published rule; benchmarks/autoscaling/README.md names the sources.

All of them see the same load, waiting and in-flight of the whole model, at the same moments, and are held to the same
least and most replicas. `target` is what one replica should carry.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from autoscaling.policies import MOST_REPLICAS, View


@dataclass
class Window:
    """The mean and the maximum over the last seconds."""

    seconds: float
    _readings: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, now: float, value: float) -> None:
        self._readings.append((now, value))
        while self._readings[0][0] <= now - self.seconds:
            self._readings.popleft()

    def mean(self) -> float:
        return sum(value for _, value in self._readings) / len(self._readings)

    def most(self) -> float:
        return max(value for _, value in self._readings)


def hpa_desired(current: int, load: float, target: float, tolerance: float = 0.1) -> int:
    """Kubernetes: ceil(current × value / target), and no change within the tolerance."""
    ratio = load / (current * target)
    return current if abs(ratio - 1) <= tolerance else math.ceil(current * ratio - 1e-9)


@dataclass
class Hpa:
    """HorizontalPodAutoscaler on an external metric: every 15 s; down by the highest of the stabilisation window;
    up by at most the double or four more per period."""

    target: float
    stabilisation: float = 300.0
    period: float = 15.0
    least: int = 1
    most: int = MOST_REPLICAS
    _next: float = 0.0
    _recommended: Window = field(init=False)

    def __post_init__(self) -> None:
        self._recommended = Window(max(self.stabilisation, 0.5))

    def wanted(self, now: float, view: View) -> int:
        if now < self._next:
            return view.wanted
        self._next = now + self.period
        if view.wanted == 0:
            return 0
        desired = hpa_desired(view.wanted, view.load, self.target)
        self._recommended.add(now, desired)
        if desired > view.wanted:
            desired = min(desired, max(2 * view.wanted, view.wanted + 4))
        else:
            desired = min(view.wanted, int(self._recommended.most()))
        return min(max(desired, self.least, 1), self.most)


@dataclass
class Keda:
    """A ScaledObject: from zero when a poll (30 s) finds load, to zero when none was for the cooldown (300 s); in
    between the HorizontalPodAutoscaler decides."""

    target: float
    stabilisation: float = 300.0
    polling: float = 30.0
    cooldown: float = 300.0
    least: int = 1
    most: int = MOST_REPLICAS
    _hpa: Hpa = field(init=False)
    _next: float = 0.0
    _active: float = 0.0

    def __post_init__(self) -> None:
        self._hpa = Hpa(self.target, self.stabilisation, least=max(1, self.least), most=self.most)

    def wanted(self, now: float, view: View) -> int:
        if now >= self._next:
            self._next = now + self.polling
            if view.load:
                self._active = now
                if view.wanted == 0:
                    return 1
            elif view.wanted and self.least == 0 and now - self._active >= self.cooldown:
                return 0
        return self._hpa.wanted(now, view) if view.wanted else 0


@dataclass
class Knative:
    """The Knative pod autoscaler: every 2 s; stable window, panic window of a tenth at twice the ready pods' target;
    at most a thousandfold up and half down per step; down only to the most wanted during scaleDownDelay."""

    target: float
    utilisation: float = 0.7
    window: float = 60.0
    delay: float = 0.0
    grace: float = 30.0
    panic_threshold: float = 2.0
    least: int = 1
    most: int = MOST_REPLICAS
    _next: float = 0.0
    _panic_since: float | None = None
    _panic_most: int = 0
    _stable: Window = field(init=False)
    _panic: Window = field(init=False)
    _delayed: Window = field(init=False)

    def __post_init__(self) -> None:
        self._stable = Window(self.window)
        self._panic = Window(max(self.window / 10, 1.0))
        self._delayed = Window(max(self.delay, 0.5))

    def wanted(self, now: float, view: View) -> int:
        self._stable.add(now, view.load)
        self._panic.add(now, view.load)
        if view.wanted == 0 and view.load:
            return max(1, self._desired(self._panic.mean()))
        if now < self._next:
            return view.wanted
        self._next = now + 2.0
        ready = max(view.ready, 1)
        stable = min(max(self._desired(self._stable.mean()), ready // 2), 1000 * ready)
        panic = min(max(self._desired(self._panic.mean()), ready // 2), 1000 * ready)
        if panic / ready >= self.panic_threshold:
            self._panic_since = now
        elif self._panic_since is not None and now - self._panic_since >= self.window:
            self._panic_since, self._panic_most = None, 0
        desired = stable
        if self._panic_since is not None:
            self._panic_most = max(self._panic_most, panic)
            desired = max(self._panic_most, view.wanted if self._panic_most <= view.wanted else 0)
        self._delayed.add(now, desired)
        desired = max(desired, int(self._delayed.most()))
        if desired == 0 and self.least == 0 and view.idle_seconds < self.window + self.grace:
            desired = min(1, view.wanted)
        return min(max(desired, self.least), self.most)

    def _desired(self, load: float) -> int:
        return math.ceil(load / (self.target * self.utilisation) - 1e-9)


def ray_desired(running: int, requests: float, target: float, factor: float = 1.0) -> int:
    """Ray Serve: the ratio of ongoing requests to what the running replicas should have, times those."""
    ratio = requests / (running * target)
    return math.ceil(running * (1 + factor * (ratio - 1)) - 1e-9)


@dataclass
class RayServe:
    """Ray Serve's default policy: the mean of look_back_period_s (30); a change must be wanted without a break for
    upscale_delay_s (30) or downscale_delay_s (600)."""

    target: float
    upscale_delay: float = 30.0
    downscale_delay: float = 600.0
    look_back: float = 30.0
    least: int = 1
    most: int = MOST_REPLICAS
    _mean: Window = field(init=False)
    _up_since: float | None = None
    _down_since: float | None = None

    def __post_init__(self) -> None:
        self._mean = Window(self.look_back)

    def wanted(self, now: float, view: View) -> int:
        self._mean.add(now, view.load)
        if view.wanted == 0:
            return 1 if view.load else 0
        desired = min(max(ray_desired(view.wanted, self._mean.mean(), self.target), self.least), self.most)
        if desired > view.wanted:
            self._down_since = None
            self._up_since = now if self._up_since is None else self._up_since
            if now - self._up_since >= self.upscale_delay:
                self._up_since = None
                return desired
        elif desired < view.wanted:
            self._up_since = None
            self._down_since = now if self._down_since is None else self._down_since
            if now - self._down_since >= self.downscale_delay:
                self._down_since = None
                return desired if view.wanted == 1 else max(1, desired)
        else:
            self._up_since = self._down_since = None
        return view.wanted


@dataclass
class KubeAi:
    """KubeAI: every 10 s the mean of the last 10 minutes, zeros before the beginning, over the target; down when
    that was so for scaleDownDelay (30 s) in a row."""

    target: float
    window: float = 600.0
    delay: float = 30.0
    interval: float = 10.0
    least: int = 1
    most: int = MOST_REPLICAS
    _next: float = 0.0
    _lower: int = 0
    _readings: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        slots = round(self.window / self.interval)
        self._readings = deque([0.0] * slots, slots)

    def wanted(self, now: float, view: View) -> int:
        if view.wanted == 0 and view.load:
            return 1
        if now < self._next:
            return view.wanted
        self._next = now + self.interval
        self._readings.append(view.load)
        mean = sum(self._readings) / len(self._readings)
        desired = min(max(math.ceil(mean / self.target - 1e-9), self.least), self.most)
        if desired >= view.wanted:
            self._lower = 0
            return desired
        self._lower += 1
        if self._lower <= math.ceil(self.delay / self.interval):
            return view.wanted
        self._lower = 0
        return desired
