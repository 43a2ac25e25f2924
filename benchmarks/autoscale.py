"""`python benchmarks/autoscale.py`: autoscaling policies over simulated time, as a page, a plot and figures."""

import argparse
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from autoscaling import traces
from autoscaling.curves import svg
from autoscaling.report import page
from autoscaling.sweeping import Figure, Judged, Setting, sweep

DOCS = Path(__file__).resolve().parents[1] / "docs/reference"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", default=",".join(traces.NAMES), help="names, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    read = "play nothing, take the figures of earlier runs"
    parser.add_argument("--read", type=Path, nargs="+", metavar="FILE", help=read)
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures here")
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCS.name}/autoscaling.md, .svg and .json")
    given = parser.parse_args()
    figures: dict[str, Judged] = {}
    if given.read:
        for file in given.read:
            figures |= _from_json(file.read_text())
    else:
        with ProcessPoolExecutor(given.processes) as pool:
            for name in given.traces.split(","):
                figures[name] = sweep(name, pool)
                sys.stderr.write(f"{name}: {len(figures[name].swept)} settings judged\n")
    if given.write:
        given.write.write_text(_to_json(figures))
    if given.write_docs:
        (DOCS / "autoscaling.json").write_text(_to_json(figures))
        (DOCS / "autoscaling.svg").write_text(svg(figures))
        (DOCS / "autoscaling.md").write_text(page(figures))
    else:
        sys.stdout.write(page(figures))
    return 0


def _to_json(figures: Mapping[str, Judged]) -> str:
    def told(group: list[Figure]) -> list[dict[str, Any]]:
        return [figure.to_json() for figure in group]

    return json.dumps(
        {
            name: {"swept": told(judged.swept), "plain": told(judged.plain), "bound": told(judged.bound)}
            | {"elsewhere": {machine: told(group) for machine, group in judged.elsewhere.items()}}
            for name, judged in figures.items()
        },
        indent=1,
    )


def _from_json(text: str) -> dict[str, Judged]:
    def figure(fact: dict[str, Any]) -> Figure:
        setting = fact.pop("setting")
        times = tuple((name, value) for name, value in setting["times"])
        return Figure(Setting(setting["policy"], setting["target"], times), **fact)

    def read(group: list[dict[str, Any]]) -> list[Figure]:
        return [figure(fact) for fact in group]

    return {
        name: Judged(
            read(facts["swept"]),
            read(facts["plain"]),
            read(facts["bound"]),
            {machine: read(group) for machine, group in facts["elsewhere"].items()},
        )
        for name, facts in json.loads(text).items()
    }


if __name__ == "__main__":
    sys.exit(main())
