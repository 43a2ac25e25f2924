"""The facts about this machine: GPUs, memory, free ports, the size of a model's files."""

import errno
import json
import random
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from shoal_operator import greeting

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")


def gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    present = sorted(int(m[1]) for p in devices.glob("nvidia*") if (m := re.fullmatch(r"nvidia(\d+)", p.name)))
    if allowed is None or not present:
        return tuple(str(number) for number in present)
    return tuple(name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1"))


def memory_available_bytes() -> int:
    """What can be used without swapping."""
    return int(psutil.virtual_memory().available)


def weights_bytes(source: Path) -> int:
    """The size of a model's weights on disk, of the one format an engine would load."""
    if source.is_file():
        return source.stat().st_size
    for pattern in _WEIGHTS:
        size = sum(path.stat().st_size for path in source.glob(pattern))
        if size:
            return size
    return 0


def free_port(host: str, ports: Iterable[int], chance: random.Random) -> int:
    """One of these ports that nobody listens on; by chance, so that two who ask at once do not get the same.

    Raises OSError where there is none to choose from.
    """
    candidates = list(ports)
    if not candidates:
        raise OSError(errno.EADDRINUSE, "no port is left")
    chance.shuffle(candidates)
    return next((port for port in candidates if is_free(host, port)), candidates[0])


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. Raises OSError where it may not be used at all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def model_kind(folder: Path) -> greeting.Kind:
    """What the model in this folder answers to."""
    try:
        config = json.loads((folder / "config.json").read_text())
        tokenizer = folder / "tokenizer_config.json"
        in_tokenizer = tokenizer.is_file() and "chat_template" in json.loads(tokenizer.read_text())
    except (OSError, ValueError):  # a model we cannot read is shown without an example of its own
        return "unknown"
    return greeting.kind_of(config, in_tokenizer or (folder / "chat_template.jinja").is_file())
