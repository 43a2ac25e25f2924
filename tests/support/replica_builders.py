"""Valid replica configurations; a test names only what it is about."""

from pathlib import Path
from typing import Any

from shoal_api.replica_config import ReplicaConfig

KEY = bytes(range(32))


def a_config(directory: Path = Path("/tmp/replica"), **changes: Any) -> ReplicaConfig:
    given: dict[str, Any] = {
        "model": "default/llama",
        "replica": "llama-0",
        "replica_uid": "uid-0",
        "revision": "r1",
        "served_name": "llama",
        "source": "/models/llama",
        "host": "127.0.0.1",
        "port": 31050,
        "model_key_file": directory / "key",
        "ray_token_file": directory / "token",
        "directory": directory / "work",
        "termination_message": directory / "last-words",
    }
    return ReplicaConfig(**{**given, **changes})


def a_config_file(directory: Path, **changes: Any) -> Path:
    """The configuration as a file, with the key and token files that it names."""
    (directory / "key").write_text(KEY.hex())
    (directory / "token").write_text("t" * 32)
    file = directory / "config.json"
    file.write_text(a_config(directory, **changes).model_dump_json(by_alias=True))
    return file
