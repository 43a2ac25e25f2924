"""How peers are chosen, configured, installed and started."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import installing
import machine
import scenarios
from installing import Debian, NotInstalled, Ours, PyPI
from measuring import verdict
from peers import PEERS, NoSuchPeer, Setting, Start, chosen
from running import Ports
from sse_sheet import Sheet
from stand_in import Pace

AT = Setting(Path("/usr/bin/peer"), Path("/scratch"), 31402, (31403, 31404), ("127.0.0.1:31400", "127.0.0.1:31401"))


def started(name: str) -> Start:
    start = PEERS[name].start
    assert start is not None
    return start(AT)


def test_direct_is_always_measured_and_first() -> None:
    assert [peer.name for peer in chosen("shoal, haproxy")] == ["direct", "haproxy", "shoal"]


def test_an_unknown_peer_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NoSuchPeer, match="there is no peer envoy; there are direct, haproxy"):
        chosen("haproxy,envoy")


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.start])
def test_every_peer_listens_on_its_port_and_on_loopback_only(name: str) -> None:
    start = started(name)
    everything = " ".join([*start.words, *start.files.values()])

    assert "31402" in everything
    assert "0.0.0.0" not in everything


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.start and not peer.behind_hello])
def test_every_peer_knows_both_engines(name: str) -> None:
    start = started(name)
    everything = " ".join([*start.words, *start.files.values()])

    assert "127.0.0.1:31400" in everything
    assert "127.0.0.1:31401" in everything


def test_proxies_are_told_not_to_hold_events_back_and_to_use_one_core() -> None:
    haproxy, nginx = started("haproxy").files["haproxy.cfg"], started("nginx").files["nginx.conf"]

    assert "option http-no-delay" in haproxy
    assert "nbthread 1" in haproxy
    assert "proxy_buffering off" in nginx
    assert "worker_processes 1" in nginx


def test_litellm_gets_a_configuration_that_it_can_read() -> None:
    models = json.loads(started("litellm").files["config.json"])["model_list"]

    assert [entry["litellm_params"]["api_base"] for entry in models] == [
        "http://127.0.0.1:31400/v1",
        "http://127.0.0.1:31401/v1",
    ]


def test_an_environment_is_keyed_by_the_version() -> None:
    old, new = PyPI("smg", "1.12.0", "smg"), PyPI("smg", "1.13.0", "smg", extra="x")

    assert old.folder != new.folder
    assert new.requirement == "smg[x]==1.13.0"


def test_an_environment_that_is_complete_is_used_as_it_is(tmp_path: Path) -> None:
    wanted = PyPI("nothing-of-that-name", "1.0", "program")
    program = tmp_path / wanted.folder / "bin/program"
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / wanted.folder / "complete").touch()

    assert installing.pypi(wanted, tmp_path) == installing.Installed(program, "1.0")


def test_a_package_without_the_program_is_named(tmp_path: Path) -> None:
    wanted = PyPI("nothing-of-that-name", "1.0", "program")
    (tmp_path / wanted.folder).mkdir()
    (tmp_path / wanted.folder / "complete").touch()

    with pytest.raises(NotInstalled, match="has no program program: name another version"):
        installing.pypi(wanted, tmp_path)


def test_a_program_that_is_there_is_not_installed_again() -> None:
    assert installing.debian(Debian("coreutils", "ls")).version.startswith("ls (GNU coreutils)")


def test_all_ports_follow_the_first() -> None:
    ports = Ports(31400)

    assert [*ports.engines, ports.peer, *ports.spare] == [31400, 31401, 31402, 31403, 31404]


def test_a_taken_port_is_found() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert machine.taken([port]) == [port]


def test_free_time_is_idle_time_of_all_cores() -> None:
    assert machine.free_share([0] * 8, [10, 0, 5, 70, 5, 0, 5, 5]) == pytest.approx(0.75)
    assert machine.free_share([1] * 8, [1] * 8) == 0


PACE = Pace(0.05, 0.01, 32)


def seen(first: int = 50_500, gap: int = 10_000, complete: int = 100, late: int = 50) -> Sheet:
    return Sheet(
        intended=100,
        complete=complete,
        first=[first] * complete,
        gap=[gap] * complete,
        late=[late] * complete,
        cpu_seconds=0.1,
        lasted_seconds=1,
    )


@pytest.mark.parametrize(
    ("sheet", "reason"),
    [
        (seen(), ""),
        (seen(first=52_100), "the first token seemed 2.1 ms too long"),
        (seen(gap=13_000), "the gap seemed 3.0 ms too long"),
        (seen(complete=99), "1 of 100 streams were not complete"),
        (seen(late=8_000), "up to 8.0 ms late"),
    ],
)
def test_the_client_is_trusted_as_long_as_it_shows_the_engines_own_pace(sheet: Sheet, reason: str) -> None:
    assert reason in verdict(sheet, PACE)
    assert bool(verdict(sheet, PACE)) == bool(reason)


def test_a_pace_tells_how_long_an_answer_takes() -> None:
    assert PACE.seconds == pytest.approx(0.36)


def test_the_short_form_takes_less_than_a_minute_for_three_peers() -> None:
    assert 3 * scenarios.SHORT.seconds() < 60


@pytest.mark.parametrize(("short_streams_per_second", "streams"), [(0, 16), (7.5, 16), (100, 132), (9_000, 768)])
def test_a_weak_peer_gets_no_more_streams_than_it_can_begin(short_streams_per_second: float, streams: int) -> None:
    assert scenarios.steady_streams(short_streams_per_second) == streams


@pytest.mark.parametrize("characters", [40, 220_000])
def test_a_body_is_json_of_the_wanted_size(characters: int) -> None:
    body = json.loads(scenarios.body(streams=True, characters=characters))

    assert len(body["messages"][0]["content"]) == characters
    assert body["stream"] is True


def test_a_route_document_is_dated_in_the_past() -> None:
    from stand_in import route_document

    document = json.loads(route_document([]))

    assert datetime.fromisoformat(document["models"][0]["created"]) < datetime.now(UTC)


def test_our_wheel_is_built_anew_when_what_it_is_made_of_changes(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    module, other = tmp_path / "serving/module.py", tmp_path / "notes.md"
    module.write_text("a = 1\n")
    ours = Ours(tmp_path, ("serving",))
    first = ours.key()
    other.write_text("of no account")
    assert ours.key() == first

    module.write_text("a = 2\n")
    assert ours.key() != first
