"""Look at a model's directory before anything is started: a wrong path is told in a second, not after the imports."""

from pathlib import Path

from shoal_api.replica_config import ReplicaConfig

_DESCRIPTIONS = ("config.json", "params.json")
"""What tells the engine which model it is: Hugging Face's name and Mistral's."""


class BadSource(ValueError):
    """A source that cannot be loaded; the text is one sentence."""


def check(config: ReplicaConfig) -> None:
    """Nothing is checked where the source is a hub's id."""
    if not config.source.startswith("/"):
        return
    path = Path(config.source)
    try:
        if path.is_dir():
            if not any((path / name).is_file() for name in _DESCRIPTIONS):
                raise BadSource(f"{path} holds no config.json, so it is no model's directory: check spec.model.source")
        elif not path.exists():
            raise BadSource(f"the model's directory {path} does not exist here: check spec.model.source and its volume")
        elif path.suffix != ".gguf":
            raise BadSource(f"{path} is a file, but a model is a directory: check spec.model.source")
    except PermissionError as error:
        raise BadSource(f"the model's directory {path} may not be read by this user: change its permissions") from error
