"""Which of the engine's flags and variables a manifest may not set: they would break routing, isolation or secrecy."""

import re
from collections.abc import Iterable

_OWNED = (
    "host",
    "port",
    "uds",
    "fd",
    "api-key",
    "served-model-name",
    "model",
    "model-tag",
    "root-path",
    "headless",
    "api-server-count",
    "grpc",
    "enable-scale-out",
    "uvicorn-WORDS",
    "ssl-WORDS",
    "enable-ssl-refresh",
    "h11-WORDS",
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-WORDS",
    "distributed-executor-backend",
    "nnodes",
    "node-rank",
    "master-addr",
    "master-port",
    "hf-token",
    "shutdown-timeout",
)
_CODE = (
    "config",
    "middleware",
    "tool-parser-plugin",
    "reasoning-parser-plugin",
    "logits-processors",
    "io-processor-plugin",
    "worker-cls",
    "worker-extension-cls",
    "allowed-local-media-path",
)
_LOGGING = ("enable-log-requests", "enable-log-outputs")


def _pattern(names: tuple[str, ...]) -> str:
    # vLLM reads `_` as `-` in flags, takes `--flag=value`, nested `--flag.key value`, and `--no-flag` for booleans.
    either_dash = "|".join(names).replace("-", "[-_]").replace("WORDS", "[a-z_-]+")
    return f"^--(no[-_])?({either_dash})([.=].*)?$"


_SHORT = r"|^-(tp|pp|dp|dpn|dpr|dpl|dpa|dpp|dpb|dph|asc|n|r)(=.*)?$"

OWNED = _pattern(_OWNED) + _SHORT
"""RE2 and Python pattern of the flags that Shoal sets itself."""
CODE = _pattern(_CODE)
"""RE2 and Python pattern of the flags that load code or a file of more flags."""
LOGGING = _pattern(_LOGGING)
"""RE2 and Python pattern of the flags that write prompts and answers into logs."""
FORBIDDEN_ENV = (
    "^(RAY_.*|SHOAL_.*|VLLM_API_KEY|VLLM_SERVER_DEV_MODE|VLLM_ALLOW_RUNTIME_LORA_UPDATING|VLLM_PLUGINS"
    "|VLLM_DEBUG_LOG_API_SERVER_RESPONSE|LD_PRELOAD|PYTHONPATH)$"
)
"""RE2 and Python pattern of the variables a manifest may not set."""

_REASONING = re.compile("reasoning[-_]parser")

_owned, _code, _logging, _env = (re.compile(pattern) for pattern in (OWNED, CODE, LOGGING, FORBIDDEN_ENV))


def is_owned(argument: str) -> bool:
    return _owned.search(argument) is not None


def loads_code(argument: str) -> bool:
    return _code.search(argument) is not None


def logs_prompts(argument: str) -> bool:
    return _logging.search(argument) is not None


def separates_reasoning(arguments: Iterable[str]) -> bool:
    """Whether the engine is told to; the flag has a long form, a nested one and one in JSON."""
    return any(_REASONING.search(argument) for argument in arguments)


def is_forbidden_env(name: str) -> bool:
    return _env.search(name) is not None
