"""Take features out, one by one, in a copy of the tree: the test named for each must fail.

`python tests/mutations/run.py [WORD ...]` tries the features whose name or file has one of the words, or all. It exits
with 0 when every test was green with its feature and red without it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from all_features import ALL
from features import Feature

ROOT = Path(__file__).parents[2]
COPIED = ("crds", "operator", "serving", "tests", "benchmarks", "e2e", "pyproject.toml")
GREEN, RED, ENDLESS = 0, 1, 124
MOST_SECONDS = 600.0


def main(words: list[str]) -> int:
    chosen = [each for each in ALL if _is_chosen(each, words)]
    with tempfile.TemporaryDirectory(prefix="shoal-mutations-") as folder:
        tree = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(ROOT / name, tree / name)
        faults = [fault for feature in chosen if (fault := _stale(tree, feature))]
        if not faults:
            faults = _with_all(tree, sorted({feature.tests for feature in chosen}))
        if not faults:
            faults = [fault for feature in chosen if (fault := _without(tree, feature))]
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(chosen) - len(faults)} of {len(chosen)} features are missed when they are gone")
    return 1 if faults else 0


def _is_chosen(feature: Feature, words: list[str]) -> bool:
    return not words or any(word in feature.name or word in feature.file for word in words)


def _stale(tree: Path, feature: Feature) -> str:
    times = (tree / feature.file).read_text().count(feature.old)
    return "" if times == 1 else f"{feature.name}: its text stands {times} times in {feature.file}"


def _with_all(tree: Path, tests: list[str]) -> list[str]:
    if _run(tree, *tests) == GREEN:
        return []
    return [f"{test}: not green with every feature in place" for test in tests if _run(tree, test) != GREEN]


def _without(tree: Path, feature: Feature) -> str:
    file = tree / feature.file
    whole = file.read_text()
    began = time.monotonic()
    file.write_text(whole.replace(feature.old, feature.new))
    try:
        code = _run(tree, feature.tests)
    finally:
        file.write_text(whole)
    word = {GREEN: "still green", RED: "red", ENDLESS: "endless"}.get(code, f"exit code {code}")
    print(f"{word:12} {time.monotonic() - began:5.1f} s  without {feature.name}", flush=True)
    return "" if code == RED else f"{feature.name}: {feature.tests} is {word} without it"


def _run(tree: Path, *tests: str) -> int:
    """pytest's exit code, with the copy's packages before all others."""
    packages = ":".join(str(tree / name) for name in ("crds", "operator", "serving"))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            return running.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            return ENDLESS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
