"""The pods of a gang: how their ranks are laid out, how they find each other, what they say when one is lost."""

import socket
import threading
import time
from pathlib import Path

import pytest

from facts import DEADLINE_SECONDS, until
from held_ports import a_port
from replica_builders import a_config, a_config_file
from shoal_api.replica_config import REPORT_FILE, Report, Stage
from shoal_serving.replica import config as configuration
from shoal_serving.replica import engine_args, engines, environment, faults, ranks, ray_gang
from shoal_serving.replica.config import BadConfig
from shoal_serving.replica.notes import NOTES_FILE, Died, Joined, Notebook, NoteReader
from shoal_serving.replica.ranks import CannotLayOut

GANG = {"tensor": 2, "pipeline": 2, "gpus": 2, "nodes": 2, "head": "big-0.big.team.svc:6379", "address": "10.0.0.7"}


def test_each_rank_has_a_bundle_and_only_the_first_can_hold_the_port() -> None:
    """vLLM's executor refuses bundles of more than one GPU; the other pods offer no CPU."""
    layout = ranks.lay_out(a_config(**GANG))

    assert (layout.ranks, layout.executor, layout.actor_gpus) == (4, "ray", 0)
    assert layout.bundles == ({"CPU": 1, "GPU": 1}, {"GPU": 1}, {"GPU": 1}, {"GPU": 1})
    words = engine_args.build(a_config(**GANG), layout)
    assert words[-2:] == ["--distributed-executor-backend", "ray"]


def test_ranks_and_gpus_of_a_gang_must_be_equal() -> None:
    with pytest.raises(CannotLayOut, match="tensor × pipeline is 4, but this replica has 3 pods with 2 GPUs each"):
        ranks.lay_out(a_config(**GANG | {"nodes": 3}))


def test_a_gang_reaches_each_other_and_a_single_pod_keeps_to_itself() -> None:
    single = environment.compose(a_config(host="0.0.0.0"), {}, ray_token="t", cpus=2, session=Path("/tmp/s"))
    gang = environment.compose(a_config(**GANG), {}, ray_token="t", cpus=2, session=Path("/tmp/s"))

    assert environment.ray_address(a_config(host="0.0.0.0")) == "127.0.0.1"
    assert environment.ray_address(a_config(**GANG)) == "10.0.0.7"
    assert "RAY_GCS_SERVER_PORT" not in single
    assert (gang["RAY_GCS_SERVER_PORT"], gang["VLLM_HOST_IP"]) == ("6379", "10.0.0.7")
    assert environment.gcs_address(a_config(**GANG)) == "10.0.0.7:6379"


def test_the_address_of_a_pod_comes_from_its_environment(tmp_path: Path) -> None:
    file = a_config_file(tmp_path, **GANG | {"address": ""})

    assert configuration.read(file, {"POD_IP": "10.0.0.8"}).address == "10.0.0.8"
    with pytest.raises(BadConfig, match="POD_IP"):
        configuration.read(file, {})


@pytest.mark.parametrize(
    ("alive", "gone"),
    [
        ({"a": "10.0.0.1", "b": "10.0.0.2"}, []),
        ({"a": "10.0.0.1"}, ["10.0.0.2"]),
        ({"a": "10.0.0.1", "c": "10.0.0.2"}, ["10.0.0.2"]),
        ({}, ["10.0.0.1", "10.0.0.2"]),
    ],
)
def test_a_pod_that_came_back_is_another_one(alive: dict[str, str], gone: list[str]) -> None:
    assert ray_gang.lost({"a": "10.0.0.1", "b": "10.0.0.2"}, alive) == gone


def test_a_rank_waits_for_its_head_and_tells_for_whom(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = a_config(tmp_path, **GANG | {"head": f"127.0.0.1:{listener.getsockname()[1]}"})
        waiting = threading.Thread(
            target=ray_gang.wait_for_head, args=(config, Notebook(tmp_path, time.time)), daemon=True
        )
        waiting.start()
        report = tmp_path / REPORT_FILE
        until(lambda: report.exists() and report.read_text().endswith("\n"))
        assert waiting.is_alive()
        assert Report.model_validate_json(report.read_text()).sentence == f"waits for rank 0 at {config.head}"
        listener.listen()
        waiting.join(DEADLINE_SECONDS)
        assert not waiting.is_alive()


def test_a_head_that_is_gone_ends_the_rank_with_a_sentence(tmp_path: Path) -> None:
    head = f"127.0.0.1:{a_port()}"
    notebook = Notebook(tmp_path, time.time)
    notebook.report(Stage.READY)

    ray_gang.follow_head(a_config(tmp_path, **GANG | {"head": head}), notebook)

    (died,) = NoteReader(tmp_path).new()
    assert isinstance(died, Died)
    words = faults.explain(died, "RuntimeError: something else", a_config(**GANG), killed_for_memory=False)
    assert words.sentence == f"rank 0 of this replica at {head} is gone: all of its pods start anew together"
    assert not words.permanent


def test_a_joined_rank_is_a_note(tmp_path: Path) -> None:
    Notebook(tmp_path, time.time).note(Joined())

    assert (tmp_path / NOTES_FILE).read_text() == '{"kind": "Joined"}\n'
    assert NoteReader(tmp_path).new() == [Joined()]


@pytest.mark.parametrize(
    ("variables", "module"),
    [
        ({}, "shoal_serving.replica.engine"),
        ({"SHOAL_REPLICA_ENGINE": "simulator"}, "shoal_serving.replica.simulated_engine"),
        ({"SHOAL_REPLICA_ENGINE": "else"}, "shoal_serving.replica.engine"),
    ],
)
def test_the_engine_is_vllm_unless_the_image_says_otherwise(variables: dict[str, str], module: str) -> None:
    assert engines.module(variables) == module
