"""Every GPU is taken when a new revision comes: old replicas make way one by one, and no request is lost."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model
from storykit.rollouts import GPU_MODEL, Lowest

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]


@pytest.mark.parametrize("replicas", [2, 1])
def test_old_replicas_make_way_one_by_one(shoal: Installation, story: Models, tmp_path: Path, replicas: int) -> None:
    rollouts.leave_gpus(story, replicas)
    story.apply(a_model("full", resources=GPU_MODEL, replicas=replicas))
    story.wait_ready("full", replicas=replicas)
    (old,) = rollouts.ready_by_revision(story, "full")
    lowest = Lowest(story)
    with asking(shoal.cluster, tmp_path, shoal.url, "full", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.apply(a_model("full", "--simulate-answer-tokens", "20", resources=GPU_MODEL, replicas=replicas))
        beside = story.until(lambda: len(story.pods("full")) > replicas, "a new pod stands beside", 30, "full")
        assert rollouts.free_gpus(story.cluster) <= 0
        waits = story.until(
            lambda: any(pod["metadata"].get("deletionTimestamp") for pod in story.pods("full")),
            "an old replica makes way",
            60,
            "full",
        )
        whole = story.until(
            lowest.until(lambda: rollouts.is_complete(story, "full", old), "full"), "all are new", 240, "full"
        )
        entries = ledger.all_ok()
    assert lowest.seen["full"] >= replicas - 1, "one at a time"
    told = [message for _, message in story.events("full")]
    assert any("no room beside the old replicas, so one makes way" in message for message in told)
    print(
        f"{replicas} replicas: new pod after {beside:.1f} s, an old one makes way {waits:.1f} s later, complete after "
        f"{beside + waits + whole:.1f} s; {len(entries)} requests ok, the longest took "
        f"{rollouts.longest_wait(ledger):.1f} s"
    )
