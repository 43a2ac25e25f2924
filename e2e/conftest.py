"""What stories on a cluster share: one cluster, one installation, a namespace for each story."""

import hashlib
import os
import re
from collections.abc import Iterator

import pytest

from localkube import access, layout, our_images
from localkube.access import Access
from storykit import installation, models, nodes, real_engine, running
from storykit.installation import Installation
from storykit.models import Models
from storykit.nodes import SECOND, Nodes

PLACE = layout.from_environment()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Access]:
    """The one that the stories run on; `stories.py` has it already and shares it with its workers."""
    if os.environ.get(installation.GIVEN):
        yield access.from_environment(PLACE)
        return
    with running.cluster(PLACE) as one:
        yield one


@pytest.fixture(scope="session")
def shoal(cluster: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The chart with the simulator as the default engine, installed once for all stories.

    `stories.py` installs it before and takes it away itself: its workers share it.
    """
    given = installation.from_environment(cluster)
    if given is not None:
        yield given
        return
    if cluster.is_local:
        installation.load_images(PLACE, ["control", "simulator"])
    try:
        yield installation.install(cluster, tmp_path_factory.mktemp("chart"))
    finally:
        installation.uninstall(cluster)


@pytest.fixture
def story(shoal: Installation, request: pytest.FixtureRequest) -> Iterator[Models]:
    """The models of a namespace of this story's own."""
    with models.namespace(shoal.cluster, _namespace(request.node.name)) as own:
        yield own


@pytest.fixture(scope="session")
def real_engine_image(shoal: Installation) -> None:
    """vLLM for the CPU on this machine's node; its models come from SHOAL_TEST_MODELS."""
    if not shoal.cluster.is_local:
        pytest.skip("real vLLM runs on this machine's own cluster only: its image and models lie here")
    if not os.environ.get(real_engine.MODELS_VARIABLE):
        pytest.skip(f"{real_engine.MODELS_VARIABLE} names no folder of models; `make stories` makes them")
    real_engine.load_image(PLACE)


def _namespace(test: str) -> str:
    """Readable, and another one for each row of a table."""
    words = re.sub("[^a-z0-9]+", "-", test.lower().removeprefix("test_"))
    return f"story-{words[:36].strip('-')}-{hashlib.sha256(test.encode()).hexdigest()[:6]}"


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
