"""Decide the environment that Ray, Serve and the engine run in; what the model owner set wins where it may."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import ray_trimming

# They would open the engine's control paths or a second check of keys behind the gateway's.
_REMOVED = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN_PATH",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "VLLM_SERVER_DEV_MODE",
)


_NAMES_CACHE = re.compile(r"--kv[-_]cache[-_]memory[-_]bytes(=|$)")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def ray_address(config: ReplicaConfig) -> str:
    """Where Ray's processes of this pod are reached: by the other ranks of a gang, else by nobody outside."""
    return config.address if config.nodes > 1 else "127.0.0.1"


def gcs_address(config: ReplicaConfig) -> str:
    """Where Ray's head of a gang is, as rank 0 itself reaches it."""
    return f"{config.address}:{config.head.rpartition(':')[2]}"


def is_local(source: str) -> bool:
    """Whether the model is a directory here (or ought to be), not a hub's id."""
    return source.startswith(("/", ".")) or Path(source).exists()


def compose(
    config: ReplicaConfig, base: Mapping[str, str], *, ray_token: str, cpus: int, session: Path
) -> dict[str, str]:
    """The variables of everything below the replica program. Ray's workers inherit them from the raylet."""
    environment = {name: value for name, value in base.items() if name not in _REMOVED}
    for name, value in (_defaults(config, cpus) | _caches(base)).items():
        environment.setdefault(name, value)
    environment.update(_ours(config, ray_token, session))
    if config.nodes > 1:
        environment.update(_of_a_gang(config))
    return environment


def _defaults(config: ReplicaConfig, cpus: int) -> dict[str, str]:
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",  # the tokenizers' threads and a later fork do not go together
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if is_local(config.source):
        defaults["HF_HUB_OFFLINE"] = "1"
    if config.gpus == 0:
        ranks = config.tensor * config.pipeline
        if not any(_NAMES_CACHE.match(word) for word in config.args):  # vLLM lets the variable win over the flag
            defaults["VLLM_CPU_KVCACHE_SPACE"] = "1"
        # One core is left to what is no computing: threads that spin for a core cost more than they bring.
        defaults["OMP_NUM_THREADS"] = str(max(1, (cpus - 1) // ranks))
        # Left to itself vLLM binds its threads to the machine's first cores, as the next replica beside it does too.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return defaults


def _caches(base: Mapping[str, str]) -> dict[str, str]:
    """Where compiled kernels stay: in the folder for caches, which may be kept longer than a pod or a run.

    Each compiler names what it keeps by its own version, the code and the device; so all replicas can share one folder.
    """
    folder, home = base.get("XDG_CACHE_HOME"), base.get("HOME")
    if folder:
        return {
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torchinductor",
            "TRITON_CACHE_DIR": f"{folder}/triton",
            "FLASHINFER_WORKSPACE_BASE": f"{folder}/flashinfer",
            "CUDA_CACHE_PATH": f"{folder}/cuda",
        }
    # The others keep theirs in the home folder by themselves, this one below TMPDIR, which goes with the run.
    return {"TORCHINDUCTOR_CACHE_DIR": f"{home}/.cache/torchinductor"} if home else {}


def _ours(config: ReplicaConfig, ray_token: str, session: Path) -> dict[str, str]:
    ours = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": ray_token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # below `uv run` Ray would read our whole folder, the log's FIFO too
        "RAY_DEDUP_LOGS": "0",
        "RAY_kill_child_processes_on_worker_exit": "false",  # the replica program ends them, after it has asked why
        "RAY_worker_niceness": "0",  # Ray would have the engine yield to everything else on the machine
        "RAY_memory_monitor_refresh_ms": "0",  # the memory limit is Kubernetes' to enforce, not Ray's
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(config.port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(config.port + 1),
        "RAY_SERVE_DIRECT_INGRESS_PORT_RETRY_COUNT": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # one event loop less between a token and its client
        "RAY_SERVE_LOG_TO_STDERR": "0",
        # While a model gets another canonical name, gateways say the new one to the replicas of before, too.
        "VLLM_SKIP_MODEL_NAME_VALIDATION": "1",
        ray_trimming.HOOK_VARIABLE: ray_trimming.HOOK,
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(session),  # what is left behind goes with the session
    }
    if is_loopback(ray_address(config)):
        ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray resolves 127.0.0.1 away to the interface's address else
    return ours


def _of_a_gang(config: ReplicaConfig) -> dict[str, str]:
    """The pods of a gang find each other by fixed addresses and know soon when one of them is lost."""
    return {
        "RAY_GCS_SERVER_PORT": config.head.rpartition(":")[2],
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
        "VLLM_HOST_IP": config.address,
    }
