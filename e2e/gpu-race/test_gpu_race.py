"""Two models want the last GPU for their new revisions: one goes first, both come to their end, no request is lost."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model
from storykit.rollouts import GPU_MODEL, Lowest

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

NAMES = ("race-a", "race-b")


@pytest.mark.parametrize(("spare", "floor"), [(1, 1), (0, 0)], ids=["one-free", "none-free"])
def test_both_rollouts_end(shoal: Installation, story: Models, tmp_path: Path, spare: int, floor: int) -> None:
    rollouts.leave_gpus(story, len(NAMES) + spare)
    for name in NAMES:
        story.apply(a_model(name, resources=GPU_MODEL))
    for name in NAMES:
        story.wait_ready(name)
    old = {name: next(iter(rollouts.ready_by_revision(story, name))) for name in NAMES}
    lowest, together = Lowest(story), 0
    with (
        asking(shoal.cluster, tmp_path, shoal.url, NAMES[0], "--rate", "5", key=shoal.key) as first,
        asking(shoal.cluster, tmp_path, shoal.url, NAMES[1], "--rate", "5", key=shoal.key) as second,
    ):
        story.until(lambda: first.count("ok") and second.count("ok"), "the load runs", 60)
        for name in NAMES:
            story.apply(a_model(name, "--simulate-answer-tokens", "20", resources=GPU_MODEL))

        def both_ended() -> bool:
            nonlocal together
            staying = {
                name: [pod for pod in story.pods(name) if not pod["metadata"].get("deletionTimestamp")]
                for name in NAMES
            }
            together = max(together, sum(len(pods) > 1 for pods in staying.values()))
            return all(rollouts.is_complete(story, name, old[name]) for name in NAMES)

        seconds = story.until(lowest.until(both_ended, *NAMES), "both are new", 300, NAMES[0])
        ends = [first.finish(), second.finish()]
    for ledger, entries in zip((first, second), ends, strict=True):
        assert {entry.outcome for entry in entries} == {"ok"}, ledger.told()
    assert together == 1, "one surges at a time"
    assert min(lowest.seen.values()) >= floor
    print(
        f"{spare} GPUs free: both replaced in {seconds:.1f} s; {sum(map(len, ends))} requests ok, the longest took "
        f"{max(rollouts.longest_wait(first), rollouts.longest_wait(second)):.1f} s"
    )
