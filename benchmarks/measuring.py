"""Measure one standing peer: every part is bounded in time, and one that fails leaves the others alone."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import arrivals
import load_tools
import placement
import quantiles
import scenarios
from load_tools import LoadReport, UnreadableReport
from running import Standing
from scenarios import Effort
from sse_client import Run
from sse_sheet import Order, Sheet, distrust
from stand_in import Pace

_SETTLE_SECONDS = 90
_AT_REST = 0.1
_PAUSE_SECONDS = 0.2
_GRACE_SECONDS = 30


@dataclass(slots=True)
class Measured:
    """Figures of one peer in one round, by name; what went wrong, by part; the commands that were run."""

    values: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    """A part could not be measured, or requests failed: no matter of time."""


@dataclass(slots=True)
class _Cost:
    cpu_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def busy(self) -> float:
        return self.cpu_seconds / self.seconds


class Measurer:
    """All the parts for one peer."""

    def __init__(self, standing: Standing, effort: Effort, at: placement.Placement, folder: Path) -> None:
        self._standing = standing
        self._effort = effort
        self._at = at
        self._folder = folder
        self._url = f"http://{standing.address}{scenarios.PATH}"
        self._measured = Measured()

    def run(self) -> Measured:
        effort = self._effort
        if effort.memory:
            self._part("memory", self._memory)
            self._settle()
        self._standing.turn(scenarios.INSTANT)
        self._part("warm-up", self._warm_up)
        for connections, seconds in effort.json.items():
            self._part(f"json_c{connections}", partial(self._json, connections, seconds))
        if effort.half:
            self._part("half", self._half)
        if effort.streams:
            self._part("streams", self._streams)
        if effort.bodies:
            self._part("bodies", self._bodies)
        if effort.events:
            self._part("events", self._events)
        for streams, lasting in effort.paced.items():
            self._part(f"paced_{streams}", partial(self._paced, streams, lasting))
        return self._measured

    def _part(self, name: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except (UnreadableReport, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            self._measured.faults[name] = f"not measured: {error}"
            self._measured.broken = True
        time.sleep(_PAUSE_SECONDS)

    def _settle(self) -> None:
        """Some go on for long with streams that nobody waits for any more; the next figure is not about those."""
        for _ in range(_SETTLE_SECONDS):
            with self._cost() as cost:
                time.sleep(1)
            if cost.busy < _AT_REST:
                return

    def _warm_up(self) -> None:
        self._wrk("warm-up", self._body_file("json", streams=False), 8, 1)

    def _json(self, connections: int, seconds: int) -> None:
        name = f"json_c{connections}"
        with self._cost() as cost:
            report = self._wrk(name, self._body_file("json", streams=False), connections, seconds)
        values = {f"{name}_per_s": report.per_second, f"{name}_busy": cost.busy}
        if report.p50_us is not None and report.p99_us is not None:
            values |= {f"{name}_p50_us": report.p50_us, f"{name}_p99_us": report.p99_us}
        if report.answered:
            values[f"{name}_cpu_us"] = cost.cpu_seconds / report.answered * 1e6
        self._measured.values |= values

    def _half(self) -> None:
        """Latency under half of what was the ceiling at 32 connections, from an open loop."""
        ceiling = self._measured.values.get("json_c32_per_s", 0.0)
        rate = max(20.0, min(ceiling / 2, scenarios.MOST_OPEN_LOOP_PER_SECOND))
        sheet = self._open_loop("half", scenarios.body(streams=False), rate, self._effort.half, connections=32)
        seen = quantiles.spread(sheet.whole)
        if seen is not None:
            self._measured.values |= {"half_per_s": rate, "half_p50_us": seen.p50, "half_p99_us": seen.p99}

    def _streams(self) -> None:
        with self._cost() as cost:
            report = self._h2load("streams", self._body_file("stream", streams=True), 32, self._effort.streams)
        self._measured.values |= {"streams_per_s": report.per_second, "streams_busy": cost.busy}
        if report.answered:
            self._measured.values["streams_cpu_us"] = cost.cpu_seconds / report.answered * 1e6

    def _bodies(self) -> None:
        body = self._body_file("large", streams=False, characters=scenarios.LARGE_BODY_BYTES)
        with self._cost() as cost:
            report = self._h2load("bodies", body, 16, self._effort.bodies)
        self._measured.values |= {"bodies_per_s": report.per_second, "bodies_busy": cost.busy}
        if report.answered:
            self._measured.values["bodies_cpu_us"] = cost.cpu_seconds / report.answered * 1e6

    def _events(self) -> None:
        """Many streams, each event by itself; counted by their bytes, since most streams are
        still open when the time is over."""
        self._standing.turn(scenarios.STEADY)
        body = self._body_file("stream", streams=True)
        answer = self._one_answer(body)
        streams = scenarios.steady_streams(self._measured.values.get("streams_per_s", 0.0))
        with self._cost() as cost:
            report = self._h2load("events", body, streams, self._effort.events)
        events = (report.body_bytes or 0) / len(answer) * answer.count(b"\n\n")
        self._measured.values |= {"events_per_s": events / report.seconds, "events_busy": cost.busy}
        if events:
            self._measured.values["events_cpu_us"] = cost.cpu_seconds / events * 1e6

    def _paced(self, streams: int, seconds: float) -> None:
        pace = scenarios.PACED
        self._standing.turn(pace)
        rate = arrivals.rate_of(streams, pace.seconds)
        with self._cost() as cost:
            sheet = self._open_loop(f"paced_{streams}", scenarios.body(streams=True), rate, seconds, streams * 2)
        for name, values in (("first", sheet.first), ("gap", sheet.gap)):
            seen = quantiles.spread(values)
            if seen is not None:
                self._measured.values[f"{name}_{streams}_p50_ms"] = seen.p50 / 1000
                self._measured.values[f"{name}_{streams}_p99_ms"] = seen.p99 / 1000
        if sheet.events:
            self._measured.values[f"paced_{streams}_event_cpu_us"] = cost.cpu_seconds / sheet.events * 1e6

    def _memory(self) -> None:
        """Streams that stay open, on a peer that has served a little and no more."""
        self._standing.turn(scenarios.INSTANT)
        self._wrk("memory_before", self._body_file("json", streams=False), 8, 1)
        pace, count = scenarios.SLOW, scenarios.SLOW_STREAMS
        self._standing.turn(pace)
        before = self._standing.measured.memory_bytes()
        arriving = count / scenarios.SLOW_ARRIVALS_PER_SECOND
        order = Order(
            url=self._url,
            body=scenarios.body(streams=True),
            rate=scenarios.SLOW_ARRIVALS_PER_SECOND,
            seconds=arriving,
            kind="fixed",
            connections=count,
        )
        self._measured.commands["memory"] = f"sse_client.py: {count} streams within {arriving:.0f} s, {pace}"
        run = Run(order, self._at.load)
        time.sleep(arriving + pace.first_token_seconds + 2 * pace.gap_seconds)
        most = before
        for _ in range(10):
            most = max(most, self._standing.measured.memory_bytes())
            time.sleep(0.2)
        sheet = run.result()
        if sheet.complete == count:
            self._measured.values["memory_per_stream_kib"] = (most - before) / count / 1024
            self._measured.values["memory_idle_mib"] = before / 1024**2
        else:
            errors = ", ".join(f"{number} {kind}" for kind, number in sheet.errors.items())
            self._measured.faults["memory"] = f"{sheet.complete} of {count} streams were complete ({errors})"

    @contextmanager
    def _cost(self) -> Iterator[_Cost]:
        cost = _Cost()
        process = self._standing.measured
        cpu, began = process.cpu_seconds(), time.monotonic()
        yield cost
        cost.seconds = time.monotonic() - began
        cost.cpu_seconds = process.cpu_seconds() - cpu

    def _open_loop(self, name: str, body: str, rate: float, seconds: float, connections: int) -> Sheet:
        order = Order(url=self._url, body=body, rate=rate, seconds=seconds, connections=connections)
        self._measured.commands[name] = f"sse_client.py --rate {rate:.0f} --seconds {seconds:g} --arrivals poisson"
        sheet = Run(order, self._at.load).result()
        problems = [f"{number} of {sheet.intended} {kind}" for kind, number in sheet.errors.items()]
        if reason := distrust(sheet):
            problems.append(f"not trustworthy: {reason}")
        if problems:
            self._measured.faults[name] = ", ".join(problems)
        return sheet

    def _wrk(self, name: str, body: Path, connections: int, seconds: int) -> LoadReport:
        script = body.with_suffix(".lua")
        script.write_text(load_tools.wrk_script(body, scenarios.HEADERS))
        words = load_tools.wrk(self._url, script, connections, seconds)
        return self._load(name, words, seconds, load_tools.read_wrk)

    def _h2load(self, name: str, body: Path, connections: int, seconds: int) -> LoadReport:
        words = load_tools.h2load(self._url, body, scenarios.HEADERS, connections, seconds)
        return self._load(name, words, seconds, load_tools.read_h2load)

    def _load(self, name: str, words: list[str], seconds: int, read: Callable[[str], LoadReport]) -> LoadReport:
        self._measured.commands[name] = " ".join(words)
        done = subprocess.run(
            placement.pinned(words, self._at.load[0]), capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS
        )
        report = read(done.stdout + done.stderr)
        if report.failed:
            self._measured.faults[name] = f"{report.failed} of {report.answered + report.failed} failed"
            self._measured.broken = True
        return report

    def _body_file(self, name: str, *, streams: bool, characters: int = 40) -> Path:
        path = self._folder / f"{name}.json"
        if not path.exists():
            path.write_text(scenarios.body(streams=streams, characters=characters))
        return path

    def _one_answer(self, body: Path) -> bytes:
        request = Request(self._url, body.read_bytes(), scenarios.HEADERS)  # noqa: S310  (loopback)
        with urlopen(request, timeout=20) as answer:  # noqa: S310  (loopback)
            return bytes(answer.read())


@dataclass(frozen=True, slots=True)
class Trust:
    """How far our own client's figures can be believed on this machine."""

    streams: int
    events_per_second: float
    because: str

    @property
    def sentence(self) -> str:
        reach = f"{self.streams} streams ({self.events_per_second:,.0f} events/s)"
        return f"The stream client is trustworthy up to {reach}; {self.because}."


_CALIBRATION = (32, 64, 128, 256, 512, 1024)
_CALIBRATION_SECONDS = 2.0
_MOST_DISTORTION_MS = 2.0


def verdict(sheet: Sheet, pace: Pace) -> str:
    """Why a run over direct shows more than the engine's pace; empty where it shows just that."""
    if sheet.complete < sheet.intended:
        return f"{sheet.intended - sheet.complete} of {sheet.intended} streams were not complete"
    if reason := distrust(sheet):
        return reason
    first, gap = quantiles.spread(sheet.first), quantiles.spread(sheet.gap)
    if first is None or gap is None:
        return "no events came"
    for name, seen, true in (("first token", first, pace.first_token_seconds), ("gap", gap, pace.gap_seconds)):
        distortion = seen.p50 / 1000 - true * 1000
        if distortion > _MOST_DISTORTION_MS:
            return f"the {name} seemed {distortion:.1f} ms too long (p50)"
    return ""


def calibrate(direct: Standing, at: placement.Placement) -> Trust:
    """Double the streams over direct until the figures are no longer the engine's own."""
    pace = scenarios.PACED
    direct.turn(pace)
    trust = Trust(0, 0.0, "nothing was tried")
    for streams in _CALIBRATION:
        order = Order(
            url=f"http://{direct.address}{scenarios.PATH}",
            body=scenarios.body(streams=True),
            rate=arrivals.rate_of(streams, pace.seconds),
            seconds=_CALIBRATION_SECONDS,
            connections=streams * 2,
        )
        sheet = Run(order, at.load).result()
        if reason := verdict(sheet, pace):
            return Trust(trust.streams, trust.events_per_second, f"at {streams} {reason}")
        trust = Trust(streams, sheet.events / sheet.lasted_seconds, "more was not tried")
    return trust
