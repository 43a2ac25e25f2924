"""What this machine must be and have before a cluster can run on it."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from localkube.commands import Refused, run
from localkube.layout import CGROUP_FOLDER

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
INSTEAD = "or name a cluster to use instead with SHOAL_E2E_KUBECONFIG"

# command → the Debian package that brings it
PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
IMAGE_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap", "gcc": "gcc", "/usr/include/stdio.h": "libc6-dev"}


def present(command: str) -> bool:
    """Is this command, or this file, there?"""
    return Path(command).exists() if command.startswith("/") else shutil.which(command) is not None


def packages_missing(wanted: dict[str, str], is_present: Callable[[str], bool]) -> list[str]:
    """The packages to install, each once, in a settled order."""
    return sorted({package for command, package in wanted.items() if not is_present(command)})


def why_not(user_id: int, cgroups: Iterable[str], commands: Sequence[str]) -> str | None:
    """Why a cluster cannot run on such a machine, or None when it can."""
    if user_id != 0:
        return f"a cluster needs root (namespaces, mounts, cgroups); run this as root {INSTEAD}"
    missing = [controller for controller in CONTROLLERS if controller not in set(cgroups)]
    if missing:
        return (
            f"a cluster needs the cgroup v1 hierarchies {', '.join(missing)} mounted under {CGROUP_FOLDER}, which this "
            f"machine does not have; run this where they are {INSTEAD}"
        )
    if commands:
        return f"missing and not in the package lists of this machine: {', '.join(commands)}; install them {INSTEAD}"
    return None


def require(wanted: dict[str, str]) -> None:
    """Refuse a machine that cannot run a cluster, and install the packages that it lacks."""
    hierarchies = [path.name for path in CGROUP_FOLDER.iterdir()] if CGROUP_FOLDER.is_dir() else []
    _refuse_when(why_not(os.geteuid(), hierarchies, []))
    install(packages_missing(wanted, present))
    _refuse_when(why_not(os.geteuid(), hierarchies, [command for command in wanted if not present(command)]))


def install(packages: Sequence[str]) -> None:
    """Install Debian packages, or say which ones to install by hand."""
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise Refused(
            f"this machine lacks {', '.join(packages)} and has no apt-get to install them; install them by hand"
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], doing="reading the package lists", environment=quiet, timeout_seconds=300)
    run(
        ["apt-get", "install", "-qy", "--no-install-recommends", *packages],
        doing=f"installing {', '.join(packages)}",
        environment=quiet,
        timeout_seconds=600,
    )


def _refuse_when(reason: str | None) -> None:
    if reason:
        raise Refused(reason)
