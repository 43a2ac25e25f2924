"""Draw what a run found: one small bar chart for each figure, as an SVG without a drawing library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from outcome import Outcome
from page import count, micro
from quantiles import median

_WIDTH = 860
_COLUMNS = 2
_BAR = 17
_HEAD = 34
_LABEL = 88
_FIGURE = 74
_GAP = 16
_MOST_TIMES_MEDIAN = 6
_OURS, _OTHERS, _DIRECT = "#0b7285", "#98a6b3", "#dbe1e6"
_STYLE = "text{font:12px system-ui,sans-serif;fill:#1f2933}.title{font-weight:600}"


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of every peer. Costs of direct are an engine's, so it stands only among the ceilings."""

    title: str
    figure: str
    is_cost: bool = False


CHARTS = (
    Chart("JSON requests/s, 32 connections (more is better)", "json_c32_per_s"),
    Chart("CPU per JSON request (less is better)", "json_c32_cpu_us", is_cost=True),
    Chart("short streams/s, 32 connections (more is better)", "streams_per_s"),
    Chart("CPU per short stream (less is better)", "streams_cpu_us", is_cost=True),
    Chart("relayed events/s (more is better)", "events_per_s"),
    Chart("CPU per relayed event (less is better)", "events_cpu_us", is_cost=True),
)


def svg(found: Outcome) -> str:
    values = {name: peer.values() for name, peer in found.peers.items() if peer.rounds}
    charts = [(chart, _figures(chart, values)) for chart in CHARTS]
    charts = [(chart, figures) for chart, figures in charts if figures]
    tall = max((_HEAD + _BAR * len(figures) for _, figures in charts), default=0) + _GAP
    rows = -(-len(charts) // _COLUMNS)
    height = rows * tall + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
    ]
    wide = _WIDTH // _COLUMNS
    for at, (chart, figures) in enumerate(charts):
        parts.append(
            _chart(chart, figures, (at % _COLUMNS) * wide + _GAP, (at // _COLUMNS) * tall + _GAP, wide - 2 * _GAP)
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _figures(chart: Chart, values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        name: own[chart.figure]
        for name, own in values.items()
        if chart.figure in own and not (chart.is_cost and name == "direct")
    }


def scale(values: Sequence[float]) -> float:
    """What fills a chart's width; one value far above the others runs out of it, so that these can be told apart."""
    return min(max(values), _MOST_TIMES_MEDIAN * median(values))


def _chart(chart: Chart, figures: Mapping[str, float], left: int, top: int, width: int) -> str:
    longest = scale(list(figures.values()))
    room = width - _LABEL - _FIGURE
    lines = [f'<text class="title" x="{left}" y="{top + 14}">{escape(chart.title)}</text>']
    for at, (name, value) in enumerate(figures.items()):
        y = top + _HEAD + at * _BAR
        colour = _OURS if name.startswith("shoal") else _DIRECT if name == "direct" else _OTHERS
        bar = max(1.0, room * min(1.0, value / longest)) if longest else 1.0
        shown = ("» " if value > longest else "") + (micro(value) if chart.is_cost else count(value))
        lines.append(f'<text x="{left + _LABEL - 6}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<rect x="{left + _LABEL}" y="{y - 7}" width="{bar:.1f}" height="{_BAR - 4}" fill="{colour}"/>')
        lines.append(f'<text x="{left + _LABEL + bar + 5:.1f}" y="{y + 4}">{escape(shown)}</text>')
    return "\n".join(lines)
