"""`shoal rollout` on one machine: its status is told, and the files stay their owner's."""

from pathlib import Path

import pytest

from replicas import T0
from shoal_api.conditions import Condition, ConditionType
from shoal_api.status import Status
from shoal_operator import cli, rollout_commands, settings, status_file
from shoal_operator.run_directory import RunDirectory
from shoal_operator.status_report import GatewayReport, ModelReport, ReplicaReport, UpReport

PROGRESS = "1 replica of another revision than new: qwen-new-0 starts (Engine)"


def a_report(reason: str = "RollingOut") -> UpReport:
    progress = Condition(
        type=ConditionType.PROGRESSING, status="True", reason=reason, message=PROGRESS, last_transition_time=T0
    )
    told = Status(revision="new", desired_replicas=1, conditions=[progress])
    replicas = [
        ReplicaReport(name="qwen-old-0", revision="old", state="Draining", since=T0),
        ReplicaReport(name="qwen-new-0", revision="new", state="Starting", since=T0),
    ]
    return UpReport(
        pid=1,
        address="127.0.0.1:8000",
        started=T0,
        manifests=["/home/me/qwen.yaml"],
        gateway=GatewayReport(internal_port=1),
        models=[ModelReport(id="default/qwen", status=told, replicas=replicas)],
    )


def test_the_status_of_a_model_of_a_running_up_is_told() -> None:
    said: list[str] = []

    codes = [
        rollout_commands.local_status([a_report(reason)], "default/qwen", said.append)
        for reason in ("RollingOut", "Complete")
    ]

    assert codes == [1, 0]
    assert said[0].splitlines() == [
        "default/qwen: revision new, 1 replica wanted",
        "  new  1 starting",
        "  old  1 draining",
        f"  RollingOut: {PROGRESS}",
    ]
    assert rollout_commands.local_status([a_report()], "default/llama", said.append) is None


@pytest.mark.parametrize(
    ("verb", "instead"), [("undo", "put back what it said before"), ("promote", "take spec.rollout.canary out")]
)
def test_a_file_is_not_changed_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, instead: str
) -> None:
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path))
    with RunDirectory(settings.runs(tmp_path) / "8000") as run:
        status_file.write(run.root, a_report())

        assert cli.main(["rollout", verb, "qwen"]) == 1

    assert f"is served by the `shoal up` of /home/me/qwen.yaml: edit that file and {instead}" in capsys.readouterr().err
