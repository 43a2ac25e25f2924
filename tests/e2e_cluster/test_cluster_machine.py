"""A machine that cannot run the cluster is told why in one sentence; waiting ends; names resolve past the machine."""

import struct
import sys
from pathlib import Path

import pytest

import cluster
from localkube import access, commands, dns_query, machine, processes, waiting
from localkube.commands import Refused
from localkube.processes import Process

V1 = machine.CONTROLLERS


@pytest.mark.parametrize(
    ("user", "cgroups", "missing", "says"),
    [
        (0, V1, [], None),
        (1000, V1, [], "needs root"),
        (0, [], [], "cgroup v1 hierarchies cpu,"),
        (0, [c for c in V1 if c != "memory"], [], "hierarchies memory mounted"),
        (0, V1, ["runc"], "runc; install"),
    ],
)
def test_what_a_machine_lacks_is_named(user: int, cgroups: list[str], missing: list[str], says: str | None) -> None:
    reason = machine.why_not(user, cgroups, missing)

    assert (reason is None) if says is None else (reason is not None and says in reason)
    assert reason is None or access.GIVEN in reason, "and the way without this machine"


def test_only_missing_packages_are_installed_each_once() -> None:
    wanted = {"containerd": "containerd", "ctr": "containerd", "ip": "iproute2", "runc": "runc"}

    assert machine.packages_missing(wanted, lambda command: command == "ip") == ["containerd", "runc"]


def test_a_failing_program_is_quoted_with_what_we_were_doing() -> None:
    broken = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]

    with pytest.raises(Refused, match=r"making tea: .* ended with 1: no such thing"):
        commands.run(broken, doing="making tea")
    with pytest.raises(Refused, match="the command 'no-such-command' is missing"):
        commands.run(["no-such-command"], doing="making tea")
    with pytest.raises(Refused, match="did not end within"):
        commands.run([sys.executable, "-c", "input()"], doing="making tea", stdin=None, timeout_seconds=0)


def a_clock(times: list[float]) -> float:
    return times.pop(0) if len(times) > 1 else times[0]


def test_waiting_tells_how_long_it_took() -> None:
    answers: list[bool | Refused] = [False, Refused("not yet"), True]
    times = [0.0, 1.0, 2.0, 3.0]

    def is_so() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return answer

    took = waiting.until(is_so, what="x", seconds=9, now=lambda: a_clock(times), rest=lambda _: None)

    assert took == 3.0


def test_waiting_ends_at_its_deadline_with_the_last_reason() -> None:
    times = [0.0, 1.0, 99.0]

    def never() -> bool:
        raise Refused("the door is shut")

    with pytest.raises(Refused, match=r"no answer within 9 s \(the door is shut\)"):
        waiting.until(never, what="answer", seconds=9, now=lambda: a_clock(times), rest=lambda _: None)


@pytest.mark.parametrize(("logs", "end"), [(None, "within 9 s"), (Path("/logs"), "within 9 s; the logs are in /logs")])
def test_a_missed_deadline_tells_where_logs_are_if_there_are_any(logs: Path | None, end: str) -> None:
    times = [0.0, 99.0]

    with pytest.raises(Refused, match=f"{end}$"):
        waiting.until(lambda: False, what="answer", seconds=9, logs=logs, now=lambda: a_clock(times))


@pytest.mark.parametrize(
    "words", [["-n", "team", "get", "pods"], ["get", "pods", "-A"], ["--help"], ["exec", "p", "--", "ls", "-l"], []]
)
def test_every_word_after_kubectl_is_kubectls(words: list[str]) -> None:
    assert cluster.parsed(["kubectl", *words]).words == words


def test_waiting_ends_at_once_when_the_process_is_dead(tmp_path: Path) -> None:
    (tmp_path / "etcd.log").write_text("starting\nbind: address already in use\n")
    dead = Process("etcd", 2**22 + 1, 1)

    with pytest.raises(Refused, match=r"etcd ended while we waited for answer: .*address already in use"):
        waiting.until(lambda: False, what="answer", seconds=9, needs=(dead,), logs=tmp_path, rest=lambda _: None)


def test_commands_inside_see_the_clusters_programs_first_and_no_proxy() -> None:
    base = {"PATH": "/bin", "HTTPS_PROXY": "http://proxy"}
    environment = processes.environment_inside(base, Path("/k.yaml"), "/a:/b", "10.0.0.0/8")

    assert environment["PATH"] == "/a:/b:/bin"
    assert environment["KUBECONFIG"] == "/k.yaml"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "10.0.0.0/8"


def test_a_given_kubeconfig_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"{access.GIVEN} names .*which is no file"):
        access.to_given(tmp_path / "none")


def an_answer(number: int, code: int, records: list[tuple[int, bytes]]) -> bytes:
    head = struct.pack(">6H", number, 0x8180 | code, 1, len(records), 0, 0)
    asked = b"\x03web\x00" + struct.pack(">2H", 1, 1)
    told = b"".join(b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, 2, len(data)) + data for kind, data in records)
    return head + asked + told


@pytest.mark.parametrize(
    ("code", "records", "found"),
    [
        (0, [(1, bytes([10, 79, 0, 10]))], ["10.79.0.10"]),
        (0, [(5, b"\x01a\x00"), (1, bytes([10, 0, 0, 2])), (1, bytes([10, 0, 0, 1]))], ["10.0.0.1", "10.0.0.2"]),
        (3, [], []),
    ],
)
def test_a_dns_answer_is_read(code: int, records: list[tuple[int, bytes]], found: list[str]) -> None:
    assert dns_query.addresses(an_answer(7, code, records), 7) == found


@pytest.mark.parametrize(("number", "code"), [(8, 0), (7, 2), (7, 5)])
def test_another_answer_or_a_failure_is_no_answer(number: int, code: int) -> None:
    with pytest.raises(ValueError, match=r"answer"):
        dns_query.addresses(an_answer(number, code, []), 7)


def test_a_dns_question_spells_the_name_in_labels() -> None:
    assert dns_query.question("web.default", 7)[12:] == b"\x03web\x07default\x00\x00\x01\x00\x01"
