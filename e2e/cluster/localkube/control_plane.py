"""Take the API server of this machine's cluster away for a while, and bring it back."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localkube import binaries, processes, starting, state, waiting
from localkube.commands import Refused
from localkube.layout import Layout
from localkube.processes import Process
from localkube.starting import Wanted

API_SERVER = "kube-apiserver"


@contextmanager
def silent(place: Layout) -> Iterator[None]:
    """It keeps its connections and says nothing, as behind a network that swallows packets."""
    process = _api_server(place)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@contextmanager
def gone(place: Layout, tell: Callable[[str], None]) -> Iterator[None]:
    """It is killed, and every connection with it; afterwards another one is started."""
    process = _api_server(place)
    os.kill(process.pid, signal.SIGKILL)
    waiting.until(lambda: not processes.is_alive(process), what="the API server has ended", seconds=20)
    try:
        yield
    finally:
        starting.start(place, binaries.built(place.cache), Wanted(), tell)


def _api_server(place: Layout) -> Process:
    known = state.read(place.state_file)
    process = known.process(API_SERVER) if known else None
    if process is None or not processes.is_alive(process):
        raise Refused("no API server runs here; run `python e2e/cluster/cluster.py start`")
    return process
