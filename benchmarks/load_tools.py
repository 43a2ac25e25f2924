"""wrk and h2load: their command lines and what their reports say."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_MICROSECONDS = {"us": 1.0, "ms": 1_000.0, "s": 1_000_000.0, "m": 60_000_000.0, "h": 3_600_000_000.0}


class UnreadableReport(ValueError):
    """A load tool wrote something that is no report; the text carries what it wrote."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load tool saw. `failed` counts answers other than 2xx, and connections that broke."""

    answered: int
    failed: int
    seconds: float
    body_bytes: int | None = None
    p50_us: float | None = None
    p99_us: float | None = None

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


def wrk_script(body: Path, headers: dict[str, str]) -> str:
    """wrk posts by a Lua script. JSON text is also a Lua string as long as it is plain ASCII without escapes."""
    lines = [
        'wrk.method = "POST"',
        f"wrk.body = io.open({json.dumps(str(body))}, 'rb'):read('*a')",
        *(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()),
    ]
    return "\n".join(lines) + "\n"


def wrk(url: str, script: Path, connections: int, seconds: float) -> list[str]:
    times = ["-d", f"{seconds:.0f}s", "--timeout", "20s", "--latency"]
    return ["wrk", "-t", "1", "-c", str(connections), *times, "-s", str(script), url]


def h2load(url: str, body: Path, headers: dict[str, str], connections: int, seconds: float) -> list[str]:
    given = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    times = ["-D", f"{seconds:.0f}"]
    return ["h2load", "--h1", "-t", "1", "-c", str(connections), "-d", str(body), *given, url, *times]


def read_wrk(text: str) -> LoadReport:
    totals = re.search(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h),", text, re.MULTILINE)
    if totals is None:
        raise UnreadableReport(f"wrk wrote no report: {text.strip()[:500]}")
    answered = int(totals[1])
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = int(others[1]) if others else 0
    return LoadReport(
        answered=answered - refused,
        failed=refused + (sum(map(int, broken.groups())) if broken else 0),
        seconds=float(totals[2]) * _MICROSECONDS[totals[3]] / 1e6,
        p50_us=_wrk_percentile(text, 50),
        p99_us=_wrk_percentile(text, 99),
    )


def _wrk_percentile(text: str, percent: int) -> float | None:
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m|h)\s*$", text, re.MULTILINE)
    return float(found[1]) * _MICROSECONDS[found[2]] if found else None


def read_h2load(text: str) -> LoadReport:
    finished = re.search(r"^finished in ([\d.]+)(us|ms|s|m|h),", text, re.MULTILINE)
    requests = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    data = re.search(r"\((\d+)\) data", text)
    if finished is None or requests is None or data is None:
        raise UnreadableReport(f"h2load wrote no report: {text.strip()[:500]}")
    return LoadReport(
        answered=int(requests[1]),
        failed=int(requests[2]),  # what errored or timed out is counted as failed already
        seconds=float(finished[1]) * _MICROSECONDS[finished[2]] / 1e6,
        body_bytes=int(data[1]),
    )
