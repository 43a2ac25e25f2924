"""How a story reaches the cluster: the one on this machine, inside its network, or any other by its kubeconfig."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localkube import binaries, layout, processes, state
from localkube.commands import Refused, run
from localkube.layout import Layout

GIVEN = "SHOAL_E2E_KUBECONFIG"
# A proxy of the machine's must not be asked for addresses that only exist in here.
NO_PROXY = f"localhost,127.0.0.1,10.77.0.0/16,{layout.PODS},{layout.SERVICES},.svc,.{layout.DOMAIN}"
DNS_QUERY = Path(__file__).with_name("dns_query.py")


@dataclass(frozen=True, slots=True)
class Access:
    """A cluster to talk to. `entry` is what a command line must begin with to run in the cluster's network."""

    kubeconfig: Path
    entry: tuple[str, ...]
    environment: Mapping[str, str]
    is_local: bool

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """What kubectl says; Refused with its own last words when it fails."""
        return self.run(["kubectl", *arguments], stdin=stdin, timeout_seconds=timeout_seconds)

    def get(self, *arguments: str) -> Any:
        """An object, or a list of them, as kubectl reads it."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply manifests."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def run(self, argv: Sequence[str], stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """A command in the cluster's network, with kubectl and helm on its path."""
        return run(
            [*self.entry, *argv],
            doing=f"running {' '.join(argv[:4])}",
            stdin=stdin,
            environment=self.environment,
            timeout_seconds=timeout_seconds,
        )

    def start(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """A long-running command in the cluster's network (a load generator); its caller ends it."""
        with log.open("wb") as out:
            return subprocess.Popen(
                [*self.entry, *argv],
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def resolve(self, name: str) -> list[str]:
        """The addresses that the cluster's own DNS knows for a name; only where its network can be entered."""
        if not self.is_local:
            raise Refused(f"names of a cluster given by {GIVEN} are resolved in its pods, not from here")
        answer = self.run([_python(), str(DNS_QUERY), name, layout.DNS_SERVICE_ADDRESS], timeout_seconds=10)
        return answer.split()


def to_local(place: Layout, programs: binaries.Binaries) -> Access:
    """Access to the cluster on this machine."""
    first = place.node(1)
    return Access(
        kubeconfig=place.kubeconfig,
        entry=tuple(processes.inside(first, [])),
        environment=processes.environment_inside(os.environ, place.kubeconfig, programs.search_path, NO_PROXY),
        is_local=True,
    )


def to_given(kubeconfig: Path, programs: binaries.Binaries | None = None) -> Access:
    """Access to somebody's cluster by a kubeconfig."""
    if not kubeconfig.is_file():
        raise Refused(f"{GIVEN} names {kubeconfig}, which is no file; give it the path of a kubeconfig")
    search_path = f"{programs.search_path}:" if programs else ""
    if not programs and shutil.which("kubectl") is None:
        raise Refused(f"kubectl is not on the path; install it, or run `cluster.py build`, to use {GIVEN}")
    environment = {"KUBECONFIG": str(kubeconfig), "PATH": f"{search_path}{os.environ.get('PATH', '')}"}
    return Access(kubeconfig=kubeconfig, entry=(), environment=environment, is_local=False)


def from_environment(place: Layout) -> Access:
    """The cluster that the stories run on: the given one, else the running one on this machine."""
    given = os.environ.get(GIVEN)
    if given:
        known = binaries.places(place.cache)
        return to_given(Path(given), known if known.kubernetes.is_dir() and known.companions.is_dir() else None)
    if state.read(place.state_file) is None:
        raise Refused(f"no cluster runs here; run `python e2e/cluster/cluster.py start`, or name one with {GIVEN}")
    if os.geteuid() != 0:
        raise Refused(f"only root enters the cluster on this machine; run this as root, or name one with {GIVEN}")
    return to_local(place, binaries.built(place.cache))


def _python() -> str:
    return shutil.which("python3") or "python3"
