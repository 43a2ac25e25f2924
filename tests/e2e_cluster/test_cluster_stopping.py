"""A stop is planned from facts: the right things, in an order in which each step can work."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localkube import cgroups, leftovers, processes, state, stopping
from localkube.commands import Refused
from localkube.layout import Node
from localkube.leftovers import Leftovers
from localkube.processes import Process
from localkube.starting import ready_in
from localkube.state import State

ALL = Leftovers(
    processes=(11, 12),
    mounts=("/state/node1/run/a/b", "/state/node1/run/a"),
    namespaces=("shoal-cluster-node1",),
    cgroups=("/cgroup/cpu/x/y", "/cgroup/cpu/x"),
    strays=("/run/containerd/s/1",),
    sysctls=(("kernel/panic", "1"),),
    folders=("/state/node1", "/var/lib/kubelet"),
    state_file="/state",
)


def test_nothing_found_is_nothing_to_do() -> None:
    assert stopping.plan(Leftovers()) == []


def test_processes_end_first_and_the_state_file_goes_last() -> None:
    steps = [(step.verb, step.what) for step in stopping.plan(ALL)]

    assert steps[:2] == [("end", "11"), ("end", "12")]
    assert steps[-1] == ("remove", "/state")


def test_no_folder_is_removed_before_all_mounts_are_undone() -> None:
    steps = stopping.plan(ALL)
    unmounts = [number for number, step in enumerate(steps) if step.verb == "unmount"]
    removals = [number for number, step in enumerate(steps) if step.verb == "remove" and step.what in ALL.folders]

    assert max(unmounts) < min(removals)


def test_mounts_are_undone_youngest_first_and_only_ours() -> None:
    mounts = ["/", "/state/a", "/state/a/b", "/statement", "/run/netns", "/run/netns/x"]

    assert leftovers.below(["/state", "/run/netns"], mounts) == ["/run/netns/x", "/run/netns", "/state/a/b", "/state/a"]


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ("26 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw", "/"),
        ("90 26 0:44 / /state/a\\040b rw - tmpfs tmpfs rw", "/state/a b"),
    ],
)
def test_a_mount_point_is_read_with_its_blanks(line: str, point: str) -> None:
    assert leftovers.mount_point(line) == point


def test_cgroups_are_removed_from_the_leaves_up_and_only_ours(tmp_path: Path) -> None:
    for hierarchy in ("cpu", "memory"):
        (tmp_path / hierarchy / "shoal-cluster-node1" / "kubepods" / "pod").mkdir(parents=True)
        (tmp_path / hierarchy / "somebody-else").mkdir()

    found = [str(path.relative_to(tmp_path)) for path in cgroups.leftovers(folder=tmp_path)]

    assert found == [
        "cpu/shoal-cluster-node1/kubepods/pod",
        "memory/shoal-cluster-node1/kubepods/pod",
        "cpu/shoal-cluster-node1/kubepods",
        "memory/shoal-cluster-node1/kubepods",
        "cpu/shoal-cluster-node1",
        "memory/shoal-cluster-node1",
    ]


def test_a_mount_that_went_by_itself_is_no_trouble_and_one_that_stays_is(tmp_path: Path) -> None:
    here = str(tmp_path)

    stopping.unmount(here, mounted=list)

    with pytest.raises(Refused, match=f"unmounting {here}"):
        stopping.unmount(here, mounted=lambda: [here])


def test_containers_are_found_by_their_cgroup(tmp_path: Path) -> None:
    node = Node(2, tmp_path / "state")
    for folder, pids in ((f"cpu{node.cgroup}/kubepods/pod1", "901\n902\n"), ("cpu/shoal-cluster-node1/pod", "903\n")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "cgroup.procs").write_text(pids)

    assert processes.of_node(node, proc=tmp_path / "proc", cgroups=tmp_path) == {901, 902}


@pytest.mark.parametrize(
    ("stat", "started"),
    [
        ("7 (kubelet) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 9 0 4242 0", 4242),
        ("7 (a b) c) R 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 9 0 17 0", 17),
        ("7 (gone) Z 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 9 0 4242 0", None),
        (None, None),
    ],
)
def test_a_process_is_known_by_its_start(tmp_path: Path, stat: str | None, started: int | None) -> None:
    if stat:
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "stat").write_text(stat)

    assert processes.started_at(7, proc=tmp_path) == started


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    kept = State(
        nodes=(1, 2),
        gpus=4,
        fake_nodes=3,
        processes=(Process("etcd", 7, 99),),
        made=("/run/netns",),
        sysctls={"kernel/panic": "1"},
        stopping=True,
    )

    state.write(tmp_path / "deep" / "state.json", kept)

    assert state.read(tmp_path / "deep" / "state.json") == kept
    assert state.read(tmp_path / "none.json") is None


def test_a_state_that_says_nothing_of_a_stop_is_of_a_cluster_that_runs() -> None:
    text = state.dump(State(nodes=(1,))).replace('"stopping": false', '"more": 1')

    assert state.parse(text, "state.json") == State(nodes=(1,))


def test_a_restarted_component_takes_the_place_of_its_dead_one() -> None:
    both = State().with_process(Process("etcd", 7, 99)).with_process(Process("kubelet", 8, 99))

    assert both.with_process(Process("etcd", 9, 100)).processes == (Process("kubelet", 8, 99), Process("etcd", 9, 100))
    assert both.with_node(1).with_node(1).nodes == (1,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "is damaged"),
        (json.dumps({"format": 1, "processes": [{"pid": 1}], "nodes": []}), "is damaged"),
        ('{"format": 99}', "is of another version"),
    ],
)
def test_a_file_that_is_no_state_is_refused_with_a_way_out(text: str, says: str) -> None:
    with pytest.raises(Refused, match=rf"/state\.json {says}.*cluster\.py stop"):
        state.parse(text, "/state.json")


HEARD = datetime(2026, 1, 1, 12, 0, 30, 700_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "heartbeat", "since", "ready"),
    [
        ("True", "2026-01-01T12:00:00Z", None, True),
        ("Unknown", "2026-01-01T12:00:00Z", None, False),
        ("True", "2026-01-01T12:00:29Z", HEARD, False),
        ("True", "2026-01-01T12:00:30Z", HEARD, True),
    ],
)
def test_a_node_is_ready_when_its_kubelet_said_so_lately(
    status: str, heartbeat: str, since: datetime | None, ready: bool
) -> None:
    node = {"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat}]}}

    assert ready_in(node, since) is ready
    assert not ready_in({"status": {}}, since)
