"""`python benchmarks/autoscale.py`: autoscaling policies over simulated time, as a page, a plot and figures."""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from autoscaling import traces
from autoscaling.curves import svg
from autoscaling.report import page
from autoscaling.sweeping import Figure, Setting, sweep

DOCS = Path(__file__).resolve().parents[1] / "docs/reference"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", default=",".join(traces.NAMES), help="names, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--read", type=Path, metavar="FILE", help="play nothing, take the figures of an earlier run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures here")
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCS.name}/autoscaling.md, .svg and .json")
    given = parser.parse_args()
    figures: dict[str, tuple[list[Figure], list[Figure]]] = {}
    if given.read:
        figures = _from_json(given.read.read_text())
    else:
        with ProcessPoolExecutor(given.processes) as pool:
            for name in given.traces.split(","):
                figures[name] = sweep(name, pool)
                sys.stderr.write(f"{name}: {len(figures[name][0])} settings judged\n")
    if given.write:
        given.write.write_text(_to_json(figures))
    if given.write_docs:
        (DOCS / "autoscaling.json").write_text(_to_json(figures))
        (DOCS / "autoscaling.svg").write_text(svg(figures))
        (DOCS / "autoscaling.md").write_text(page(figures))
    else:
        sys.stdout.write(page(figures))
    return 0


def _to_json(figures: dict[str, tuple[list[Figure], list[Figure]]]) -> str:
    return json.dumps(
        {
            name: {"swept": [f.to_json() for f in swept], "as they come": [f.to_json() for f in plain]}
            for name, (swept, plain) in figures.items()
        },
        indent=1,
    )


def _from_json(text: str) -> dict[str, tuple[list[Figure], list[Figure]]]:
    def figure(fact: dict[str, Any]) -> Figure:
        setting = fact.pop("setting")
        times = tuple((name, value) for name, value in setting["times"])
        return Figure(Setting(setting["policy"], setting["target"], times), **fact)

    return {
        name: ([figure(f) for f in facts["swept"]], [figure(f) for f in facts["as they come"]])
        for name, facts in json.loads(text).items()
    }


if __name__ == "__main__":
    sys.exit(main())
