"""What stories on a cluster share: one cluster, one installation, a namespace for each story."""

import os
import sys
from collections.abc import Iterator

import pytest

from localkube import access, caching, layout, our_images, state
from localkube.access import GIVEN, Access
from localkube.commands import run
from storykit import installation, models, nodes
from storykit.installation import Installation
from storykit.models import Models
from storykit.nodes import SECOND, Nodes

PLACE = layout.from_environment()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Access]:
    """The cluster that runs or is given; else one of this machine, stopped afterwards.

    Of this machine's one session has it at a time: two installations that serve all namespaces would fight.
    """
    if os.environ.get(GIVEN):
        yield access.from_environment(PLACE)
        return
    with caching.locked(PLACE.cache / "stories.lock"):
        yield from _of_this_machine()


def _of_this_machine() -> Iterator[Access]:
    if state.read(PLACE.state_file) is not None:
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


@pytest.fixture
def two_nodes(shoal: Installation) -> Iterator[Nodes]:
    """A second node that takes pods while the story lasts. Name it behind `story`, which is tidied up with both."""
    if not shoal.cluster.is_local:
        pytest.skip("nodes of a cluster that was given are not ours to start, drain or kill")
    with nodes.of_this_machine(shoal.cluster, PLACE) as two:
        installation.load_images(PLACE, ["control", "simulator"], nodes=(SECOND,))
        yield two


@pytest.fixture(scope="session")
def ray_image(cluster: Access) -> str:
    """The real replica program with Ray, and the simulator as its engine."""
    if not cluster.is_local:
        pytest.skip("the image of the simulator inside Ray is put into the nodes of this machine's cluster only")
    installation.load_images(PLACE, ["simulator-ray"])
    return our_images.ALL["simulator-ray"].name
