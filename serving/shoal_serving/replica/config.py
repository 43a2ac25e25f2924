"""Read what this replica is told: its file, its keys, and from the environment what no file can know."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from shoal_api.replica_config import ReplicaConfig

log = logging.getLogger(__name__)

NAME_VARIABLE = "POD_NAME"
UID_VARIABLE = "POD_UID"
ADDRESS_VARIABLE = "POD_IP"

_KEY_BYTES = 32


class BadConfig(ValueError):
    """A configuration that no new start can heal; the text is one sentence."""


def read(file: Path, environment: Mapping[str, str]) -> ReplicaConfig:
    """The configuration in `file`, completed from the environment."""
    try:
        config = ReplicaConfig.model_validate_json(file.read_text())
    except OSError as error:
        raise BadConfig(f"the replica's configuration {file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise BadConfig(f"the replica's configuration {file} is wrong at {where}: {first['msg']}") from error
    name = config.replica or environment.get(NAME_VARIABLE, "")
    uid = config.replica_uid or environment.get(UID_VARIABLE, "")
    if not name or not uid:
        raise BadConfig(
            "the replica does not know its own name and UID: set `replica` and `replicaUid` in the configuration, "
            f"or {NAME_VARIABLE} and {UID_VARIABLE} in the environment"
        )
    address = config.address or environment.get(ADDRESS_VARIABLE, "")
    if config.nodes > 1 and not (address and config.head):
        raise BadConfig(
            "a replica of several pods needs to know where they reach each other: set `head` in the configuration, and "
            f"`address` there or {ADDRESS_VARIABLE} in the environment"
        )
    return config.model_copy(update={"replica": name, "replica_uid": uid, "address": address})


def read_model_key(config: ReplicaConfig) -> bytes:
    """The model's key, by which gateways and this replica know each other."""
    try:
        key = bytes.fromhex(config.model_key_file.read_text().strip())
    except OSError as error:
        raise BadConfig(f"the model key {config.model_key_file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadConfig(f"the model key {config.model_key_file} is not hex text") from error
    if len(key) != _KEY_BYTES:
        raise BadConfig(f"the model key {config.model_key_file} has {len(key)} bytes instead of {_KEY_BYTES}")
    return key


class KeyFile:
    """The model's key as it stands in its file now. With another master key the operator writes it anew, and kubelet
    brings it into the pod within a minute or two: what runs goes on with the new one."""

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._mark = (0, 0, 0)

    def changed(self) -> bytes | None:
        """The key, where the file is another than at the last look (the first finds it so) and holds one."""
        mark = self._look()
        if mark == self._mark:
            return None
        self._mark = mark
        try:
            return read_model_key(self._config)
        except BadConfig as error:
            log.warning("reason=KeyNotTaken because=%s", error)
            return None

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._config.model_key_file.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def read_ray_token(config: ReplicaConfig) -> str:
    """The token by which the processes of this replica's Ray cluster know each other."""
    try:
        token = config.ray_token_file.read_text().strip()
    except OSError as error:
        raise BadConfig(f"the Ray token {config.ray_token_file} cannot be read: {error.strerror}") from error
    if not token:
        raise BadConfig(f"the Ray token {config.ray_token_file} is empty")
    return token
