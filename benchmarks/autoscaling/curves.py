"""Draw what each policy can reach on each trace: replica time against the longest waits, as an SVG by hand."""

import math
from collections.abc import Mapping
from html import escape

from autoscaling.sweeping import FORESIGHT, Figure, Judged, unbeaten

_WIDE, _TALL, _LEFT, _TOP, _BETWEEN = 400, 250, 56, 34, 26
_COLUMNS = 2
_COLOURS = {
    "Shoal": "#0b7285",
    "HPA": "#e8590c",
    "KEDA": "#e8590c",
    "Knative": "#5f3dc4",
    "Ray Serve": "#2b8a3e",
    "KubeAI": "#868e96",
    FORESIGHT: "#111111",
}
_STYLE = "text{font:11px system-ui,sans-serif;fill:#1f2933}.title{font-weight:600;font-size:12px}"

Figures = Mapping[str, Judged]


def svg(figures: Figures) -> str:
    rows = math.ceil(len(figures) / _COLUMNS)
    wide, tall = _COLUMNS * (_WIDE + _BETWEEN), rows * (_TALL + _BETWEEN) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
    ]
    for at, (policy, colour) in enumerate(_COLOURS.items()):
        x = 20 + at * 110
        parts.append(
            f'<circle cx="{x}" cy="16" r="4" fill="{colour}"/><text x="{x + 8}" y="20">{escape(policy)}</text>'
        )
    for at, (name, judged) in enumerate(figures.items()):
        left, top = (at % _COLUMNS) * (_WIDE + _BETWEEN), 30 + (at // _COLUMNS) * (_TALL + _BETWEEN)
        parts.append(f'<g transform="translate({left},{top})">{_panel(name, judged)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, judged: Judged) -> str:
    swept = [*judged.swept, *judged.bound]
    costs = [f.replica_seconds / 3600 for f in swept]
    least, most = min(costs) * 0.95, max(costs) * 1.02
    longest = max(1.0, *(f.p99 for f in swept)) * 1.05
    room, height = _WIDE - _LEFT - 10, _TALL - _TOP - 40

    def place(figure: Figure) -> tuple[float, float]:
        share = (figure.replica_seconds / 3600 - least) / (most - least)
        return _LEFT + room * share, _TOP + height * (1 - figure.p99 / longest)

    lines = [f'<text class="title" x="{_LEFT}" y="18">{escape(name)}</text>']
    lines.append(
        f'<path d="M{_LEFT},{_TOP}V{_TOP + height}H{_LEFT + room}" fill="none" stroke="#98a6b3"/>'
        f'<text x="{_LEFT + room}" y="{_TOP + height + 32}" text-anchor="end">replica-hours</text>'
        f'<text x="4" y="{_TOP - 6}">p99 wait, s</text>'
    )
    for share in (0.0, 0.5, 1.0):
        cost, wait = least + (most - least) * share, longest * share
        lines.append(
            f'<text x="{_LEFT + room * share}" y="{_TOP + height + 15}" text-anchor="middle">{cost:.1f}</text>'
        )
        lines.append(f'<text x="{_LEFT - 6}" y="{_TOP + height * (1 - share) + 4}" text-anchor="end">{wait:.0f}</text>')
    for policy, colour in _COLOURS.items():
        own = [f for f in swept if f.setting.policy == policy]
        if not own:
            continue
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in map(place, own)]
        front = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, unbeaten(own)))
        width = 2.2 if policy == "Shoal" else 1.2
        dashes = ' stroke-dasharray="4 3"' if policy == FORESIGHT else ""
        lines.append(f'<polyline points="{front}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')
    return "".join(lines)
