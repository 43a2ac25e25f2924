"""Notes, the engine's output, the own port, limits and the environment: the small doors of the replica program."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from replica_builders import a_config
from shoal_api.replica_config import REPORT_FILE, Report, Stage
from shoal_serving.replica import engine_log, environment, forking, limits, own_port
from shoal_serving.replica.engine_log import EngineLog
from shoal_serving.replica.notes import NOTES_FILE, Died, Notebook, NoteReader, Serving, Vital


def test_notes_are_read_once_and_only_when_whole(tmp_path: Path) -> None:
    notebook, reader = Notebook(tmp_path, lambda: 1.0), NoteReader(tmp_path)
    assert reader.new() == []
    notebook.note(Vital(7, "the engine core"))
    notebook.note(Died(Stage.ENGINE, "a\nb", is_refusal=False))
    assert reader.new() == [Vital(7, "the engine core"), Died(Stage.ENGINE, "a\nb", is_refusal=False)]
    with (tmp_path / NOTES_FILE).open("a") as stream:
        stream.write('{"kind": "Serving", ')
        stream.flush()
        assert reader.new() == []
        stream.write('"seconds": 0.5}\n')
    assert reader.new() == [Serving(0.5)]


def test_reports_are_lines_of_the_treaty(tmp_path: Path) -> None:
    Notebook(tmp_path, lambda: 12.5).report(Stage.FAILED, "it is “broken”")
    (line,) = (tmp_path / REPORT_FILE).read_text().splitlines()
    assert Report.model_validate_json(line) == Report(stage=Stage.FAILED, at=12.5, sentence="it is “broken”")


def test_notes_of_an_earlier_run_are_forgotten_and_its_report_stays(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path, lambda: 1.0)
    notebook.report(Stage.FAILED, "earlier")
    notebook.note(Vital(7, "x"))
    notebook.forget_notes()
    assert NoteReader(tmp_path).new() == []
    assert (tmp_path / REPORT_FILE).exists()


def test_the_engines_output_is_passed_on_and_its_end_is_kept(tmp_path: Path) -> None:
    sink = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    log = EngineLog(tmp_path, sink)
    writer = os.open(tmp_path / engine_log.PIPE, os.O_WRONLY)
    sent = b""
    for number in range(20):
        chunk = bytes([65 + number]) * 20_000
        os.write(writer, chunk)
        log.pump()
        sent += chunk
    assert (tmp_path / "out").read_bytes() == sent
    assert log.text() == sent[-engine_log.KEPT_BYTES :].decode()
    os.write(writer, b"dropped")
    log.drop()
    assert not log.text().endswith("dropped")
    for descriptor in (writer, sink, log.fileno()):
        os.close(descriptor)


def test_a_port_is_taken_while_somebody_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert own_port.is_taken("127.0.0.1", port)
    assert not own_port.is_taken("127.0.0.1", port)


def test_a_connection_that_lingers_from_an_earlier_run_takes_no_port() -> None:
    with socket.socket() as server:
        # As Serve opens its socket.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server closes first: its end lingers
        client.close()
    assert not own_port.is_taken("127.0.0.1", port)


def test_unsent_bytes_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:7530 00000000:0000 0A 00000005:00000000 00:00000000 00000000     0        0 1 1\n"
        "   1: 0100007F:7530 0100007F:9C40 01 000003E8:00000000 00:00000000 00000000     0        0 2 1\n"
        "   2: 0100007F:7531 0100007F:9C41 01 000003E8:00000000 00:00000000 00000000     0        0 3 1\n"
        "   3: 0100007F:7530 0100007F:9C42 04 00000000:00000000 00:00000000 00000000     0        0 4 1\n"
    )
    assert own_port.unsent_bytes(table, 30000) == [1000, 0]
    assert own_port.unsent_bytes(tmp_path / "no-ipv6", 30000) == []


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_pods_cpu_limit_bounds_the_threads(tmp_path: Path, files: dict[str, str], cpus: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limits.cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


def test_kills_for_memory_are_counted_in_both_kinds_of_cgroup(tmp_path: Path) -> None:
    assert limits.kills(tmp_path) == 0
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert limits.kills(tmp_path) == 2
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\n")
    assert limits.kills(tmp_path) == 1


def compose(base: dict[str, str], cpus: int = 4, **changes: object) -> dict[str, str]:
    return environment.compose(a_config(**changes), base, ray_token="t", cpus=cpus, session=Path("/tmp/s"))


def test_the_owners_variables_win_over_the_defaults_and_not_over_ours() -> None:
    found = compose({"VLLM_CPU_KVCACHE_SPACE": "4", "OMP_NUM_THREADS": "3", "RAY_AUTH_MODE": "disabled", "MINE": "1"})
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["OMP_NUM_THREADS"], found["MINE"]) == ("4", "3", "1")
    assert (found["RAY_AUTH_MODE"], found["RAY_AUTH_TOKEN"]) == ("token", "t")


def test_vllm_leaves_it_to_the_gateway_which_names_lead_to_its_model() -> None:
    assert compose({"VLLM_SKIP_MODEL_NAME_VALIDATION": "0"})["VLLM_SKIP_MODEL_NAME_VALIDATION"] == "1"


def test_the_one_port_is_a_range_of_one() -> None:
    found = compose({})
    assert found["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"] == "31050"
    assert found["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] == "31051"


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"])
def test_what_opens_the_engines_control_paths_is_removed(name: str) -> None:
    assert name not in compose({name: "1"})


@pytest.mark.parametrize(
    ("cpus", "ranks", "threads"), [(8, 1, "7"), (8, 2, "3"), (2, 1, "1"), (2, 2, "1"), (1, 2, "1")]
)
def test_the_ranks_share_the_cores_but_one(cpus: int, ranks: int, threads: str) -> None:
    assert compose({}, cpus, tensor=ranks)["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        (
            {"XDG_CACHE_HOME": "/cache", "HOME": "/home/me"},
            {
                "TORCHINDUCTOR_CACHE_DIR": "/cache/torchinductor",
                "TRITON_CACHE_DIR": "/cache/triton",
                "FLASHINFER_WORKSPACE_BASE": "/cache/flashinfer",
                "CUDA_CACHE_PATH": "/cache/cuda",
            },
        ),
        ({"HOME": "/home/me"}, {"TORCHINDUCTOR_CACHE_DIR": "/home/me/.cache/torchinductor"}),
        ({"HOME": "/home/me", "TORCHINDUCTOR_CACHE_DIR": "/mine"}, {"TORCHINDUCTOR_CACHE_DIR": "/mine"}),
        ({}, {}),
    ],
    ids=["a pod", "one machine", "the owner's choice", "no home"],
)
def test_compiled_kernels_outlive_the_run(base: dict[str, str], kept: dict[str, str]) -> None:
    assert {
        name: value
        for name, value in compose(base).items()
        if value.startswith(("/cache", "/home/me/.", "/mine")) and name != "XDG_CACHE_HOME"
    } == kept


def test_with_gpus_there_are_no_defaults_for_cpus() -> None:
    assert not {"VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS"} & compose({}, gpus=1).keys()


def test_a_cache_size_among_the_arguments_is_not_overridden_by_our_default() -> None:
    assert "VLLM_CPU_KVCACHE_SPACE" not in compose({}, args=["--kv-cache-memory-bytes=1000000"])


@pytest.mark.parametrize(("source", "offline"), [("/models/llama", True), ("org/model@v2", False)])
def test_the_hub_is_not_asked_about_a_local_model(source: str, offline: bool) -> None:
    assert ("HF_HUB_OFFLINE" in compose({}, source=source)) is offline


@pytest.mark.parametrize(
    ("changes", "loopback"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "address": "10.0.0.7"}, True),
        ({"nodes": 2, "gpus": 1, "tensor": 2, "head": "big-0:6379", "address": "10.0.0.7"}, False),
    ],
)
def test_ray_stays_on_loopback_unless_other_pods_must_reach_it(changes: dict[str, Any], loopback: bool) -> None:
    assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in compose({}, **changes)) is loopback


@pytest.mark.parametrize(
    ("gpus", "variables", "wanted"),
    [
        (0, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}, True),
        (0, {"VLLM_CPU_OMP_THREADS_BIND": "0-1|2-3"}, False),
        (0, {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}, False),
        (1, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}, False),
    ],
)
def test_the_engine_is_forked_only_where_that_is_tried(gpus: int, variables: dict[str, str], wanted: bool) -> None:
    assert forking.is_wanted(gpus, variables) is wanted


def test_ray_does_not_pack_the_folder_up_when_uv_started_us() -> None:
    assert compose({"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"})["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
