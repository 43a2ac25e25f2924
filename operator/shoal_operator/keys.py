"""Make API keys, and look whether a keys file can be used. The key is shown once; what is kept is its hash."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from shoal_api import keys
from shoal_api.keys import Priority
from shoal_api.rules import BadManifest
from shoal_operator.settings import BadSettings

_PREFIX = "sk-shoal-"
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, and the text of its entry in a keys file."""

    key: str
    entry: str


def new(name: str, models: list[str], priority: Priority = "normal") -> NewKey:
    """A key that nobody has. Raises BadSettings where the entry would be refused."""
    key = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    entry: dict[str, object] = {"name": name, "sha256": keys.digest(key.encode()).hex(), "models": models}
    if priority != "normal":
        entry["priority"] = priority
    try:
        keys.read([entry])
    except BadManifest as bad:
        raise BadSettings(
            "; ".join(f"{fault.path.removeprefix('[0].')}: {fault.sentence}" for fault in bad.faults)
        ) from bad
    return NewKey(key, yaml.safe_dump([entry], sort_keys=False, default_flow_style=None, width=1000))


def check(file: Path) -> None:
    """Raises BadSettings with one sentence where a gateway could not use the file."""
    try:
        keys.read(yaml.safe_load(file.read_bytes()))
    except OSError as error:
        raise BadSettings(f"--keys-file: {file} cannot be read ({error.strerror})") from error
    except BadManifest as bad:
        raise BadSettings(f"--keys-file: {file}: {bad}") from bad
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise BadSettings(f"--keys-file: {file} is not YAML") from error
