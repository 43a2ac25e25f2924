"""A replica that becomes ready tells where its start went."""

import pytest

from shoal_api.replica_config import Report, Stage
from shoal_serving.replica import start_story


def reports(*moments: tuple[Stage, float]) -> list[Report]:
    return [Report(stage=stage, at=at) for stage, at in moments]


FIRST = ((Stage.RAY, 10.0), (Stage.IMPORTS, 18.5), (Stage.ENGINE, 30.5), (Stage.SELF_TEST, 35.0))


@pytest.mark.parametrize(
    ("moments", "ready_at", "line"),
    [
        (
            FIRST,
            36.25,
            "ready after 26.2 s: Ray and Serve 8.5 s, imports 12.0 s, weights and engine 4.5 s, self-test 1.2 s",
        ),
        (
            (*FIRST, (Stage.READY, 36.0), (Stage.FAILED, 90.0), (Stage.RAY, 100.0), (Stage.IMPORTS, 104.0)),
            110.0,
            "ready after 10.0 s: Ray and Serve 4.0 s, imports 6.0 s",
        ),
        ((), 5.0, ""),
    ],
    ids=["a start", "the last of two", "no report"],
)
def test_every_stage_and_the_whole(moments: tuple[tuple[Stage, float], ...], ready_at: float, line: str) -> None:
    assert start_story.told(reports(*moments), ready_at) == line
