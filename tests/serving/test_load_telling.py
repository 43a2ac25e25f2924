"""What a gateway tells of its load second by second, and what it leaves out because nothing happened."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from shoal_api.load import ModelLoad, ReplicaSums
from shoal_operator import merging
from shoal_serving.gateway.load_telling import Changes

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
MODEL = "default/m"


@dataclass
class Models:
    """A gateway as the stream sees it."""

    now: dict[str, ModelLoad] = field(default_factory=dict)
    boot: str = "b"

    def loads(self) -> dict[str, ModelLoad]:
        return dict(self.now)

    def uptime_seconds(self) -> float:
        return 0.0

    def put_sums(self, sums: ReplicaSums) -> None:
        raise AssertionError(sums)


def test_everything_first_then_what_changed() -> None:
    models = Models({"default/a": ModelLoad(arrived=1), "default/b": ModelLoad(arrived=1)})
    changes = Changes(models)
    first = changes.message()
    assert (first.is_whole, first.sequence, set(first.models)) == (True, 0, {"default/a", "default/b"})
    models.now["default/a"] = busy = ModelLoad(in_flight=1, arrived=2)
    second = changes.message()
    assert (second.is_whole, second.sequence, second.models) == (False, 1, {"default/a": busy})
    models.now["default/a"] = idle = ModelLoad(arrived=2, idle_seconds=0.4)
    assert changes.message().models == {"default/a": idle}
    del models.now["default/b"]
    models.now["default/a"] = ModelLoad(arrived=2, idle_seconds=1.4)
    assert not changes.message().models, "time that passes while nobody asks is no news"


def test_of_a_model_that_is_gone_nothing_is_left() -> None:
    models = Models({MODEL: ModelLoad(waiting=2, arrived=2)})
    changes = Changes(models)
    changes.message()
    models.now.clear()
    assert changes.message().models == {MODEL: ModelLoad()}
    assert not changes.message().models


@pytest.mark.parametrize("idle_seconds", [0.0, 0.1, 0.2, 0.3, 0.9])
def test_a_request_that_came_and_went_between_two_messages_is_told(idle_seconds: float) -> None:
    models = Models({MODEL: ModelLoad(arrived=1, idle_seconds=0.2)})
    changes = Changes(models)
    changes.message()
    models.now[MODEL] = ModelLoad(arrived=2, idle_seconds=idle_seconds)
    assert changes.message().models == models.now


def test_a_model_that_is_asked_shortly_again_and_again_is_never_thought_idle() -> None:
    """Each request is over before the next message, and a little longer ago at each of them."""
    models, merger = Models(), merging.Merger(BEGAN)
    changes = Changes(models)
    for second in range(1, 61):
        models.now[MODEL] = ModelLoad(arrived=second, idle_seconds=round(second * 0.01, 2))
        now = BEGAN + timedelta(seconds=second)
        merger.hear("g", changes.message(), now)
        busy_at = merger.load(MODEL, now).busy_at
        assert busy_at is not None
        assert (now - busy_at).total_seconds() < 1
    assert merger.load(MODEL, now).newest.arrived == 60 - 1, "all but those before the first message"
