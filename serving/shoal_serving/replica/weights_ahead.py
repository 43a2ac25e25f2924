"""Read a model's weights into the page cache while Ray and the engine's code are still on their way.

The engine reads them some ten seconds later; from a disk or a network these seconds are worth gigabytes.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import engine_args, environment, limits

_CHUNK_BYTES = 4 * 1024 * 1024
_ADVICE_BYTES = 128 * 1024
"""Linux follows one piece of advice as far as the disk's readahead goes, which is seldom less."""
_KINDS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
"""In the order in which the engine looks for them; it loads the first kind that is there."""
_SHARE_OF_MEMORY = 0.5
"""More would push out what was read before, or what others use."""


def begin(config: ReplicaConfig, variables: Mapping[str, str]) -> threading.Event:
    """Start reading in the background; setting the event ends it. What cannot be read is for the engine to tell."""
    stop = threading.Event()
    wanted = files(config.source, variables)
    room = int(limits.memory_available_bytes() * _SHARE_OF_MEMORY)
    if wanted:
        threading.Thread(target=read, args=(wanted, room, stop.is_set), daemon=True).start()
    return stop


def files(source: str, variables: Mapping[str, str]) -> Sequence[Path]:
    """What the engine will load, as far as it lies here already."""
    try:
        path = Path(source) if environment.is_local(source) else _in_the_hubs_cache(source, variables)
        if path is None or path.is_file():
            return [path] if path is not None else []
        found = ([file for file in sorted(path.glob(kind)) if file.is_file()] for kind in _KINDS)
        return next((kind for kind in found if kind), [])
    except OSError:
        return []


def _in_the_hubs_cache(source: str, variables: Mapping[str, str]) -> Path | None:
    caches = variables.get("XDG_CACHE_HOME") or f"{variables.get('HOME', '')}/.cache"
    model, revision = engine_args.split_source(source)
    hub = Path(variables.get("HF_HOME") or f"{caches}/huggingface") / "hub"
    folder = hub / f"models--{model.replace('/', '--')}"
    named = folder / "refs" / (revision or "main")
    commit = named.read_text().strip() if named.is_file() else revision
    return folder / "snapshots" / commit if commit else None


def read(wanted: Iterable[Path], room_bytes: int, is_stopped: Callable[[], bool]) -> int:
    """How many bytes are in memory now; what was there already costs next to nothing, and memory ends it."""
    passed = 0
    for file in wanted:
        try:
            with file.open("rb", buffering=0) as stream:
                size = os.fstat(stream.fileno()).st_size
                for offset in range(0, size, _CHUNK_BYTES):
                    length = min(_CHUNK_BYTES, size - offset)
                    if is_stopped() or passed + length > room_bytes:
                        return passed
                    _fetch(stream.fileno(), offset, length)
                    passed += length
        except OSError:
            continue
    return passed


def _fetch(descriptor: int, offset: int, length: int) -> None:
    """Nothing is copied. Chunk by chunk: who reads from this disk meanwhile, as imports do, waits for one of them."""
    for begin in range(offset, offset + length, _ADVICE_BYTES):
        os.posix_fadvise(descriptor, begin, _ADVICE_BYTES, os.POSIX_FADV_WILLNEED)
    os.pread(descriptor, 1, offset + length - 1)
