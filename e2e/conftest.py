"""What stories on a cluster share: one cluster, one installation, a namespace for each story."""

import hashlib
import os
import re
from collections.abc import Iterator

import pytest

from localkube import access, layout
from localkube.access import Access
from storykit import installation, models, real_engine, running
from storykit.installation import Installation
from storykit.models import Models

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
        pytest.skip(f"{real_engine.MODELS_VARIABLE} names no folder of models; `make nightly` makes them")
    real_engine.load_image(PLACE)


def _namespace(test: str) -> str:
    """Readable, and another one for each row of a table."""
    words = re.sub("[^a-z0-9]+", "-", test.lower().removeprefix("test_"))
    return f"story-{words[:36].strip('-')}-{hashlib.sha256(test.encode()).hexdigest()[:6]}"
