"""What `shoal up` is told at its start."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "SHOAL_HOME"
ENGINE_PYTHON_VARIABLE = "SHOAL_ENGINE_PYTHON"
REPLICA_PORTS_VARIABLE = "SHOAL_REPLICA_PORTS"

_USUAL_PORTS = range(30000, 32000)
"""Below the range from which systems take the ports of outgoing connections, so none is lost while an engine loads."""


class BadSettings(ValueError):
    """A setting that cannot be; one sentence."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One `shoal up`."""

    manifests: tuple[Path, ...]
    host: str
    port: int
    home: Path
    replica_ports: range
    simulator: bool = False
    allow_anonymous: bool = False
    keys_file: Path | None = None

    @property
    def run_root(self) -> Path:
        """The folder of this run: one per port."""
        return runs(self.home) / str(self.port)

    @property
    def address(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def home(environment: Mapping[str, str]) -> Path:
    """Where engines, runs and their logs lie."""
    given = environment.get(HOME_VARIABLE)
    if given:
        return Path(given).absolute()
    data = environment.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "shoal"


def runs(home_folder: Path) -> Path:
    return home_folder / "run"


def listen(text: str) -> tuple[str, int]:
    """Host and port of `--listen`."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadSettings(f"--listen {text}: give HOST:PORT, for example 127.0.0.1:8000")
    return (host.strip("[]") or "127.0.0.1"), int(port)


def replica_ports(environment: Mapping[str, str]) -> range:
    """The ports that replicas may be given."""
    text = environment.get(REPLICA_PORTS_VARIABLE)
    if not text:
        return _USUAL_PORTS
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
        raise BadSettings(f"{REPLICA_PORTS_VARIABLE}={text}: give FIRST-LAST, for example 30000-31999")
    return range(int(first), int(last) + 1)
