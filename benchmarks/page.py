"""Render what a run found as a page of tables."""

from collections.abc import Callable, Mapping, Sequence

import outcome
from outcome import Outcome, PeerOutcome

PLOT = "benchmarks.svg"
_BUSY = 0.9
_NONE = "–"

Values = Mapping[str, float]
Cell = Callable[[Values, Values], str]
"""From a peer's figures and direct's."""


def count(value: float) -> str:
    """Three digits that mean something."""
    if value >= 10_000:
        return f"{round(value, -2):,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def micro(value: float) -> str:
    """Microseconds, in the unit that people read."""
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.0f} µs"


def _ceiling(name: str, busy: str, percentiles: str = "") -> Cell:
    def cell(own: Values, direct: Values) -> str:
        if name not in own:
            return _NONE
        is_direct = own is direct
        # Where the peer had time left, engine and load were at their end first.
        text = ("" if is_direct or own.get(busy, 1.0) >= _BUSY else "≥ ") + count(own[name])
        p50, p99 = own.get(f"{percentiles}_p50_us"), own.get(f"{percentiles}_p99_us")
        return text + (f" ({micro(p50)} / {micro(p99)})" if p50 is not None and p99 is not None else "")

    return cell


def _plain(name: str, show: Callable[[float], str]) -> Cell:
    return lambda own, _direct: show(own[name]) if name in own else _NONE


def _pair(stem: str, show: Callable[[float], str]) -> Cell:
    def cell(own: Values, _direct: Values) -> str:
        p50, p99 = (next((own[n] for n in own if n.startswith(f"{stem}_{p}_")), None) for p in ("p50", "p99"))
        return _NONE if p50 is None or p99 is None else f"{show(p50)} / {show(p99)}"

    return cell


def _added(own: Values, direct: Values) -> str:
    if own is direct or "json_c1_p50_us" not in own or "json_c1_p50_us" not in direct:
        return _NONE
    p50, p99 = (own[n] - direct[n] for n in ("json_c1_p50_us", "json_c1_p99_us"))
    return " / ".join("≤ 0" if value < 0 else micro(value) for value in (p50, p99))


def _half(own: Values, _direct: Values) -> str:
    if "half_p50_us" not in own:
        return _NONE
    return f"{micro(own['half_p50_us'])} / {micro(own['half_p99_us'])} at {count(own['half_per_s'])}/s"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


_CEILINGS: dict[str, Cell] = {
    "JSON/s, c = 1 (p50 / p99)": _ceiling("json_c1_per_s", "", "json_c1"),
    "JSON/s, c = 32": _ceiling("json_c32_per_s", "json_c32_busy", "json_c32"),
    "JSON/s, c = 128": _ceiling("json_c128_per_s", "json_c128_busy", "json_c128"),
    "short streams/s": _ceiling("streams_per_s", "streams_busy"),
    "relayed events/s": _ceiling("events_per_s", "events_busy"),
    "220 KB bodies/s": _ceiling("bodies_per_s", "bodies_busy"),
}
_LATENCIES: dict[str, Cell] = {
    "added to one request (p50 / p99)": _added,
    "one request at half its ceiling": _half,
    "first token, 8 streams (ms)": _pair("first_8", _ms),
    "gap, 8 streams (ms)": _pair("gap_8", _ms),
    "first token, 128 streams (ms)": _pair("first_128", _ms),
    "gap, 128 streams (ms)": _pair("gap_128", _ms),
}
_COSTS: dict[str, Cell] = {
    "CPU per JSON request": _plain("json_c32_cpu_us", micro),
    "per short stream": _plain("streams_cpu_us", micro),
    "per event at its ceiling": _plain("events_cpu_us", micro),
    "per event, 128 streams": _plain("paced_128_event_cpu_us", micro),
    "per 220 KB body": _plain("bodies_cpu_us", micro),
    "memory per open stream": _plain("memory_per_stream_kib", lambda kib: f"{kib:.1f} KiB"),
    "memory at rest": _plain("memory_idle_mib", lambda mib: f"{mib:.0f} MiB"),
}


_INTRODUCTION = """\
Every program over the same two stand-in engines, in {rounds}; each figure is the median of the rounds. All on one
machine and its loopback, so the network costs nothing and the programs everything."""

_ABOUT_CEILINGS = """\
`≥`: the program had more than a tenth of its core left, engine and load were at their end first; the CPU times below
tell what it could do. c: connections. A short stream is 18 events in one burst. Relayed events come one by one, 10 ms
apart in each of up to 768 streams."""

_ABOUT_LATENCIES = """\
Added to one request: what direct takes with one connection is taken off. At half its ceiling (at most 8,000
requests/s), first token and gap: from an open loop of Poisson arrivals, counted from the intended beginning. The
engine's first token takes 50 ms, each gap 10 ms; so many streams are open on average."""

_ABOUT_COSTS = """\
CPU time of the program and its children; for direct that of one engine. At its ceiling a program finds
several events of a stream at once, which makes each cheaper; with 128 streams each comes alone and wakes it. Memory per
stream: what 1,000 open streams add to a program that has served a little."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _peers_table(peers: Mapping[str, PeerOutcome], cells: Mapping[str, Cell]) -> str:
    values = {name: peer.values() for name, peer in peers.items() if peer.rounds}
    direct = values.get("direct", {})
    kept = {title: cell for title, cell in cells.items() if any(cell(own, direct) != _NONE for own in values.values())}
    rows = [[name, *(cell(own, direct) for cell in kept.values())] for name, own in values.items()]
    return table(["", *kept], rows)


def _ratios_table(peers: Mapping[str, PeerOutcome]) -> str:
    values = {name: peer.values() for name, peer in peers.items() if peer.rounds}
    others = [name for name in values if name not in ("direct", "shoal")]
    if "shoal" not in values or not others:
        return ""
    shares = {name: {r.name: r.share for r in outcome.ratios(values["shoal"], values[name])} for name in others}
    titles = list(dict.fromkeys(title for found in shares.values() for title in found))
    rows = [
        [title, *(f"{shares[name][title]:.0%}" if title in shares[name] else _NONE for name in others)]
        for title in titles
    ]
    return table(["Shoal as a share of", *others], rows)


def ratio_lines(found: Outcome, other: str = "haproxy") -> list[str]:
    """For a log: ours beside one other."""
    peers = found.peers
    if not (other in peers and "shoal" in peers and peers[other].rounds and peers["shoal"].rounds):
        return []
    compared = outcome.ratios(peers["shoal"].values(), peers[other].values())
    return [f"{r.name:34} shoal {count(r.ours):>9}   {other} {count(r.theirs):>9}   {r.share:6.0%}" for r in compared]


def tables(found: Outcome) -> str:
    """The three tables, for a page or a terminal."""
    return "\n\n".join(_peers_table(found.peers, cells) for cells in (_CEILINGS, _LATENCIES, _COSTS))


def page(found: Outcome) -> str:
    """docs/reference/benchmarks.md."""
    peers = found.peers
    machine = "; ".join(f"{name} {value}" for name, value in found.machine.items())
    idle = ", ".join(f"{share:.0%}" for share in found.idle)
    ceilings, latencies, costs = (_peers_table(peers, cells) for cells in (_CEILINGS, _LATENCIES, _COSTS))
    trust = [found.trust] if found.trust else []
    versions = [[name, peer.version or _NONE, peer.remark or peer.left_out] for name, peer in peers.items()]
    sections = [
        "# Benchmarks",
        "<!-- Generated by `python benchmarks/run.py --write-docs`; edit the program, not this page. -->",
        _INTRODUCTION.format(rounds="one round" if found.rounds == 1 else f"{found.rounds} rounds"),
        "\\\n".join(
            [f"{found.date} · {machine}", f"Placement: {found.placement}.", f"Free before each round: {idle}.", *trust]
        ),
        f"![Requests, streams and events a second and what each costs]({PLOT})",
        "## Ceilings",
        ceilings,
        _ABOUT_CEILINGS,
        "## Latency",
        latencies,
        _ABOUT_LATENCIES,
        "## Cost",
        costs,
        _ABOUT_COSTS,
    ]
    if compared := _ratios_table(peers):
        sections += ["## Shoal beside the others", compared]
    if problems := [f"- {name}: {fault}" for name, peer in peers.items() for fault in peer.faults]:
        sections += ["## What went wrong", "\n".join(problems)]
    sections += [
        "## Versions",
        table(["", "version", "how"], versions),
        f"## Again\n\n```\n{found.command}\n```\n\n`--peers` leaves some out, `--short` takes less than a minute.",
    ]
    return "\n\n".join(sections) + "\n"
