"""Render the reference page of the chart's values from their comments: `python charts/values_reference.py > PAGE`.

A value's text is the comment right above it. A comment above a group stands for the group.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "shoal"
_MARK = "<!-- Generated from charts/shoal/values.yaml by `make crds`. Do not edit. -->\n"
_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z][A-Za-z0-9]*):")


@dataclass(frozen=True, slots=True)
class Value:
    """One row of the page; a group has no default."""

    path: str
    default: Any
    text: str
    is_group: bool


def values(text: str) -> Iterator[Value]:
    """Every value of a values file in its order, with the comment above it."""
    document = yaml.safe_load(text)
    names: list[str] = []
    comment: list[str] = []
    hidden_below: int | None = None
    for line in text.splitlines():
        key = _KEY.match(line)
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("#").strip())
        elif key is None:
            comment = []
        else:
            depth = len(key["indent"]) // 2
            if hidden_below is None or depth <= hidden_below:
                names = [*names[:depth], key["name"]]
                default = document
                for name in names:
                    default = default[name]
                is_group = line.rstrip().endswith(":") and names[-1] != "resources"
                hidden_below = None if is_group else depth
                yield Value(".".join(names), default, " ".join(comment), is_group)
            comment = []


def page(text: str) -> str:
    """The reference page."""
    lines = [
        _MARK,
        "# Values of the chart\n",
        "`helm install shoal charts/shoal --values my.yaml`. What is not listed here or has a wrong type is refused.\n",
        "| value | default | |",
        "|---|---|---|",
    ]
    for value in values(text):
        default = "" if value.is_group else f"`{json.dumps(value.default)}`"
        if value.text or not value.is_group:
            lines.append(f"| `{value.path}` | {default} | {value.text} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page((CHART / "values.yaml").read_text()))
