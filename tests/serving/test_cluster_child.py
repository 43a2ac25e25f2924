"""The watching child tells everything once it is known, then only what became other."""

from pathlib import Path

from cluster_objects import a_model, a_slice, an_endpoint
from shoal_api.routes import ModelRoute
from shoal_serving.gateway import cluster_wire
from shoal_serving.gateway.cluster_child import Teller
from shoal_serving.gateway.cluster_store import Store
from shoal_serving.gateway.cluster_watch import MODELS, SLICES, Api, Feed, Resource, Watch
from shoal_serving.gateway.cluster_wire import Commit, Gone, State, Told, WatchState, Whole


class BarredWatch(Watch):
    """A watch whose namespace is closed."""

    is_barred = True


class Stage:
    """Two watches that never run, and what the teller wrote."""

    def __init__(self, *barred: Resource) -> None:
        self.now = 100.0
        self.store = Store()
        self.written = b""
        api, feed = Api(Path("/nowhere")), Feed(lambda *_: None, lambda *_: None, lambda: None)
        self.models, self.slices = (
            Watch(api, resource, "a", feed, lambda: self.now, lambda: 0.5) for resource in (MODELS, SLICES)
        )
        closed = [BarredWatch(api, resource, "b", feed, lambda: self.now, lambda: 0.5) for resource in barred]
        self.teller = Teller([self.models, self.slices, *closed], self.store, self.write, lambda: self.now)

    def write(self, data: bytes) -> None:
        self.written += data

    def told(self) -> list[Told | str]:
        """Routes by their names, everything else as it is."""
        lines, self.written = self.written.splitlines(), b""
        told = [cluster_wire.decode(line) for line in lines]
        return [one.name if isinstance(one, ModelRoute) else one for one in told]


def test_nothing_is_told_before_both_resources_were_listed() -> None:
    stage = Stage()
    stage.store.replace_models("", [a_model()])
    stage.models.lists = 1
    stage.teller.tell_changes()
    assert stage.told() == []
    stage.slices.lists = 1
    stage.teller.tell_changes()
    assert stage.told() == ["m", Whole()]


def test_an_empty_cluster_is_told_too_and_silence_afterwards() -> None:
    stage = Stage()
    stage.models.lists = stage.slices.lists = 1
    stage.teller.tell_changes()
    assert stage.told() == [Whole()]
    stage.teller.tell_changes()
    assert stage.told() == []


def test_changes_are_told_with_a_commit() -> None:
    stage = Stage()
    stage.models.lists = stage.slices.lists = 1
    stage.store.replace_models("", [a_model("m"), a_model("n")])
    stage.teller.tell_changes()
    stage.told()
    stage.store.change_slice(a_slice(an_endpoint()), is_deleted=False)
    stage.store.change_model(a_model("n"), is_deleted=True)
    stage.teller.tell_changes()
    assert stage.told() == ["m", Gone("uid-n"), Commit()]


def test_a_closed_namespace_keeps_nobody_waiting_but_is_not_all_there_is() -> None:
    stage = Stage(MODELS, SLICES)
    stage.teller.tell_changes()
    assert stage.told() == []
    stage.models.lists = stage.slices.lists = 1
    stage.teller.tell_changes()
    assert stage.told() == [Whole()]


def test_the_age_is_that_of_the_watch_which_waits_longest() -> None:
    stage = Stage(SLICES)
    stage.models.heard_at, stage.models.lists, stage.models.losses = 97.5, 2, {"Closed": 1}
    stage.teller.tell_state()
    assert stage.told() == [
        State({"modeldeployments": WatchState(2.5, 2, {"Closed": 1}), "endpointslices": WatchState(-1.0, 0, {})})
    ]
