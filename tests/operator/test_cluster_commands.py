"""What the commands that look at a cluster say where they are shown nothing: refused and empty are two things."""

from pathlib import Path

import pytest

from fake_kube import MODELS, a_cluster
from shoal_operator import cli, cluster_commands
from shoal_operator.api_faults import NotThere
from shoal_operator.settings import BadSettings


def test_who_may_not_list_models_is_not_told_that_there_are_none(tmp_path: Path) -> None:
    said: list[str] = []
    with a_cluster() as kube:
        kubeconfig = kube.kubeconfig(tmp_path)
        assert cluster_commands.status(kubeconfig, None, said.append) == 1
        assert said == ["no ModelDeployment in any namespace; make one with: kubectl apply -f model.yaml"]

        kube.refuse["list"] = 403
        with pytest.raises(NotThere, match=r"the cluster refuses: as the test wishes \(403\)"):
            cluster_commands.status(kubeconfig, None, said.append)
        kube.refuse["list"] = 404
        assert cluster_commands.status(kubeconfig, "team", said.append) == 1
    assert kube.count("list", MODELS) == 3


@pytest.mark.parametrize("text", ["a: [", "- x", "clusters: 3", "just words"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)

    with pytest.raises(BadSettings, match=f"--kubeconfig {file}: cannot be used"):
        cluster_commands.status(file, None, print)


def test_a_log_has_no_negative_number_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["logs", "qwen", "--tail", "-1"])

    assert "argument --tail: -1 is no number of lines; give 0 or more" in capsys.readouterr().err
