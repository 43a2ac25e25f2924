"""The cluster that stories run on: the given one, the one that runs, or one that is started for them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from localkube import access, caching, our_images, state
from localkube.access import Access
from localkube.commands import run
from localkube.layout import Layout

PROGRAM = our_images.ROOT / "e2e" / "cluster" / "cluster.py"


@contextmanager
def cluster(place: Layout) -> Iterator[Access]:
    """One cluster for one session of stories; stopped afterwards where it was started here.

    This machine's is had by one session at a time: two installations that serve all namespaces would fight.
    """
    if os.environ.get(access.GIVEN):
        yield access.from_environment(place)
        return
    with caching.locked(place.cache / "stories.lock"):
        known = state.read(place.state_file)
        if known is not None and not known.stopping:
            yield access.from_environment(place)
            return
        run([sys.executable, PROGRAM, "build"], doing="building the cluster", timeout_seconds=2400)
        try:
            run([sys.executable, PROGRAM, "start", "--gpus", "4"], doing="starting the cluster", timeout_seconds=300)
            yield access.from_environment(place)
        finally:
            run([sys.executable, PROGRAM, "stop"], doing="stopping the cluster", timeout_seconds=180)
