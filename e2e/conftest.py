"""What stories on a cluster share: one cluster, one installation, a namespace for each story."""

import os
import sys
from collections.abc import Iterator

import pytest

from localkube import access, layout, our_images, state
from localkube.access import GIVEN, Access
from localkube.commands import run
from storykit import installation, models
from storykit.installation import Installation
from storykit.models import Models

PLACE = layout.from_environment()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Access]:
    """The cluster that runs or is given; else one of this machine, stopped afterwards."""
    if os.environ.get(GIVEN) or state.read(PLACE.state_file) is not None:
        yield access.from_environment(PLACE)
        return
    program = [sys.executable, str(our_images.ROOT / "e2e" / "cluster" / "cluster.py")]
    run([*program, "build"], doing="building the cluster", timeout_seconds=1800)
    try:
        run([*program, "start", "--gpus", "4"], doing="starting the cluster", timeout_seconds=300)
        yield access.from_environment(PLACE)
    finally:
        run([*program, "stop"], doing="stopping the cluster", timeout_seconds=120)


@pytest.fixture(scope="session")
def shoal(cluster: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The chart with the simulator as the default engine, installed once for all stories."""
    if cluster.is_local:
        installation.load_images(PLACE, ["control", "simulator"])
    try:
        yield installation.install(cluster, tmp_path_factory.mktemp("chart"))
    finally:
        installation.uninstall(cluster)


@pytest.fixture
def story(shoal: Installation, request: pytest.FixtureRequest) -> Iterator[Models]:
    """The models of a namespace of this story's own."""
    name = request.node.name.replace("_", "-").removeprefix("test-").split("[")[0][:40].strip("-")
    with models.namespace(shoal.cluster, f"story-{name}") as own:
        yield own
