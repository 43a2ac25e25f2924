"""Write a reading in Prometheus' text format, in pieces: no token waits for a page that tells of a thousand models."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from shoal_serving.gateway.metrics import HELP, Histogram, Reading

PIECE_CHARACTERS = 16 * 1024
"""Written in a fraction of a millisecond."""
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HISTOGRAMS = (
    ("shoal_queue_wait_seconds", "queue_wait"),
    ("shoal_time_to_first_token_seconds", "first_token"),
    ("shoal_token_gap_seconds", "gap"),
    ("shoal_added_latency_seconds", "added"),
    ("shoal_request_duration_seconds", "duration"),
)


class Exposition:
    """The page that Prometheus reads."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def pieces(self) -> Iterator[bytes]:
        """Everything as it is now; between two pieces others can have their turn."""
        parts: list[str] = []
        length = 0
        for text in _page(self._read()):
            parts.append(text)
            length += len(text)
            if length >= PIECE_CHARACTERS:
                yield "".join(parts).encode()
                parts, length = [], 0
        yield "".join(parts).encode()


def _page(reading: Reading) -> Iterator[str]:
    yield from _of_requests(reading)
    yield from _gauges(reading)
    for name, of in _HISTOGRAMS:
        yield _head(name, "histogram")
        for model, counted in reading.models.items():
            yield _histogram(name, _escaped(model), getattr(counted, of))
    yield from _watches(reading)


def _of_requests(reading: Reading) -> Iterator[str]:
    yield _head("shoal_requests", "counter")
    for model, counted in reading.models.items():
        for (route, outcome), count in tuple(counted.requests.items()):
            yield _row("shoal_requests_total", {"model": model, "outcome": outcome, "route": route}, count)
    yield _head("shoal_attempts", "counter")
    for model, counted in reading.models.items():
        for outcome, count in tuple(counted.attempts.items()):
            yield _row("shoal_attempts_total", {"model": model, "outcome": outcome}, count)


def _gauges(reading: Reading) -> Iterator[str]:
    for name, of in (
        ("shoal_requests_waiting", "waiting"),
        ("shoal_requests_in_flight", "in_flight"),
        ("shoal_upstream_idle_connections", "idle_connections"),
    ):
        yield _head(name, "gauge")
        for model, gauges in reading.gauges.items():
            yield _row(name, {"model": model}, getattr(gauges, of))
    yield _head("shoal_endpoints", "gauge")
    for model, gauges in reading.gauges.items():
        for state, count in gauges.endpoints.items():
            yield _row("shoal_endpoints", {"model": model, "state": state}, count)
    for name, value in (("shoal_held_bytes", reading.held_bytes), ("shoal_open_connections", reading.open_connections)):
        yield _head(name, "gauge")
        yield f"{name} {float(value)}\n"


def _watches(reading: Reading) -> Iterator[str]:
    heard = {resource: state.age_seconds for resource, state in reading.watches.items() if state.age_seconds >= 0}
    yield _head("shoal_watch_age_seconds", "gauge")
    yield from (_row("shoal_watch_age_seconds", {"resource": resource}, age) for resource, age in heard.items())
    yield _head("shoal_watch_losses", "counter")
    for resource, state in reading.watches.items():
        for reason, count in state.losses.items():
            yield _row("shoal_watch_losses_total", {"reason": reason, "resource": resource}, count)
    yield _head("shoal_watch_lists", "counter")
    for resource, state in reading.watches.items():
        yield _row("shoal_watch_lists_total", {"resource": resource}, state.lists)


def _head(name: str, kind: str) -> str:
    shown = f"{name}_total" if kind == "counter" else name
    return f"# HELP {shown} {HELP[name]}\n# TYPE {shown} {kind}\n"


def _row(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {float(value)}\n"


def _histogram(name: str, model: str, histogram: Histogram) -> str:
    """Nothing about what never happened: a model that nobody asks for would have eighty lines of noughts."""
    if not any(histogram.counts):
        return ""
    rows: Iterable[tuple[str, float]] = histogram.buckets()
    lines = [f'{name}_bucket{{le="{bound}",model="{model}"}} {count}' for bound, count in rows]
    whole = float(sum(histogram.counts))
    lines += (f'{name}_count{{model="{model}"}} {whole}', f'{name}_sum{{model="{model}"}} {histogram.total}\n')
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)
