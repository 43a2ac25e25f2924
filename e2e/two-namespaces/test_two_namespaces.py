"""Two teams, two namespaces, one address: models of one object name live side by side, and a name has one holder."""

from pathlib import Path

import pytest

from storykit import models
from storykit.installation import Installation
from storykit.load import served_by
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster


def test_models_of_two_namespaces_share_an_address_and_no_name(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    with models.namespace(shoal.cluster, f"{story.namespace}-2") as second:
        story.apply(a_model("twin", model={"names": ["twin-a", "shared"]}))
        story.wait_ready("twin")
        second.apply(a_model("twin", model={"names": ["twin-b", "shared"]}))
        second.wait_ready("twin")

        assert second.status("twin")["names"] == ["twin-b"]
        told = second.wait_reason("twin", "NamesGranted", "NameTaken")
        assert "shared" in told
        assert f"{story.namespace}/twin" in told
        for name, holder in (("twin-a", story), ("shared", story), ("twin-b", second)):
            assert served_by(shoal, tmp_path, name) == f"{holder.namespace}/twin"

        story.delete("twin")
        second.until(lambda: "shared" in second.status("twin")["names"], "the name passes on", 180, "twin")
        assert served_by(shoal, tmp_path, "shared") == f"{second.namespace}/twin"
        assert {pod["status"]["phase"] for pod in second.pods("twin")} == {"Running"}, "the neighbour stays"
