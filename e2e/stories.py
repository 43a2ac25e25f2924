"""Run the stories on one cluster with one installation: those that mostly wait beside each other, the others alone.

`make stories STORIES="[--nightly] [--workers N] [PYTEST WORDS]"`; a cluster that runs already, or is given, is used
and left as it is.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localkube import layout, our_images
from localkube.access import Access
from localkube.commands import Refused
from storykit import installation, running

PLACE = layout.from_environment()
HERE = Path(__file__).parent
NO_TESTS = 5
"""How pytest ends when nothing was chosen."""


def main(words: Sequence[str]) -> int:
    """0 when every story passed; a refusal is one sentence."""
    parser = argparse.ArgumentParser(prog="stories.py", description=__doc__)
    parser.add_argument("--nightly", action="store_true", help="the slowest stories, too")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="stories beside each other (default: 3)")
    arguments, chosen = parser.parse_known_args(words)
    try:
        with running.cluster(PLACE) as cluster, _installed(cluster) as given:
            marks = "cluster" if arguments.nightly else "cluster and not nightly"
            beside = ["-n", str(arguments.workers), "--dist", "loadgroup"]
            codes = [
                _pytest([*beside, "-m", f"{marks} and not alone", *chosen], given),
                _pytest(["-m", f"{marks} and alone", *chosen], given),
            ]
    except Refused as refusal:
        print(f"stories.py: {refusal}", file=sys.stderr)
        return 1
    if set(codes) == {NO_TESTS}:
        print("stories.py: no story was chosen", file=sys.stderr)
        return NO_TESTS
    return max(0 if code == NO_TESTS else code for code in codes)


@contextmanager
def _installed(cluster: Access) -> Iterator[dict[str, str]]:
    if cluster.is_local:
        with _told("the images"):
            installation.load_images(PLACE, ["control", "simulator"])
    with tempfile.TemporaryDirectory(prefix="shoal-stories-") as folder:
        try:
            with _told("the chart"):
                made = installation.install(cluster, Path(folder))
            yield made.to_environment()
        finally:
            installation.uninstall(cluster)


@contextmanager
def _told(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


def _pytest(words: Sequence[str], given: dict[str, str]) -> int:
    """The outcome of a run of pytest over the stories; the tooling's own story is not one of them.

    The others are not even read: those of the real engine ask where it is.
    """
    stories = [test for test in sorted(HERE.glob("*/test_*.py")) if "pytest.mark.cluster" in test.read_text()]
    chosen = [str(test) for test in stories if test.parent.name != "cluster"]
    # `-P`: the folder it runs in holds one named `operator`, as a module of the standard library is.
    program = [sys.executable, "-P", "-m", "pytest", *chosen, "--durations=0"]
    return subprocess.run([*program, *words], env={**os.environ, **given}, cwd=our_images.ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
