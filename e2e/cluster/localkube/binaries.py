"""Build Kubernetes, etcd, CoreDNS, Helm and kwok from the Go modules beside this package, once per state of them."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localkube import caching
from localkube.commands import Refused, run

MODULES = Path(__file__).resolve().parents[1] / "binaries"
VERSION = "v1.34.4"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
COMPANIONS = ("./coredns", "helm.sh/helm/v3/cmd/helm", "sigs.k8s.io/kwok/cmd/kwok")
KWOK_STAGES = ("kustomize/stage/node/fast", "kustomize/stage/node/heartbeat-with-lease", "kustomize/stage/pod/fast")
BUILD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Binaries:
    """The two folders of finished programs."""

    kubernetes: Path
    companions: Path

    def path(self, program: str) -> Path:
        return (self.kubernetes if program in COMPONENTS else self.companions) / program

    @property
    def kwok_stages(self) -> Path:
        return self.companions / "kwok-stages.yaml"

    @property
    def search_path(self) -> str:
        return f"{self.kubernetes}:{self.companions}"


def linker_flags(version: str) -> str:
    """Flags that make small programs which know their own version."""
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"
    return f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"


def places(cache: Path) -> Binaries:
    """Where the programs lie, or will lie, for the modules as they are now."""

    def folder(module: str, recipe: str) -> Path:
        inputs = {**caching.files_below(MODULES / module), "recipe": recipe.encode()}
        return cache / f"{module}-{caching.key_of(inputs)}"

    return Binaries(
        kubernetes=folder("kubernetes", " ".join([linker_flags(VERSION), *COMPONENTS])),
        companions=folder("companions", " ".join([*COMPANIONS, *KWOK_STAGES])),
    )


def build(cache: Path) -> Binaries:
    """Build what is not there yet: some minutes on two cores the first time, nothing afterwards."""
    wanted = places(cache)
    caching.made_once(wanted.kubernetes, _build_kubernetes)
    caching.made_once(wanted.companions, _build_companions)
    return wanted


def built(cache: Path) -> Binaries:
    """The finished programs, or a word about how to get them."""
    wanted = places(cache)
    if not (wanted.kubernetes.is_dir() and wanted.companions.is_dir()):
        raise Refused("the cluster's programs are not built yet; run `python e2e/cluster/cluster.py build` first")
    return wanted


def _build_kubernetes(draft: Path) -> None:
    draft.mkdir(parents=True)
    _go(["build", "-trimpath", "-ldflags", linker_flags(VERSION), "-o", str(draft / "kubernetes"), "."], "kubernetes")
    for component in COMPONENTS:
        (draft / component).symlink_to("kubernetes")


def _build_companions(draft: Path) -> None:
    draft.mkdir(parents=True)
    _go(["build", "-trimpath", "-ldflags", "-s -w", "-o", f"{draft}/", *COMPANIONS], "companions")
    source = Path(_go(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"], "companions").strip())
    stages = [path.read_text() for stage in KWOK_STAGES for path in sorted((source / stage).glob("*.yaml"))]
    documents = [text for text in stages if "kind: Stage" in text]
    (draft / "kwok-stages.yaml").write_text("\n---\n".join(documents))


def _go(arguments: list[str], module: str) -> str:
    if shutil.which("go") is None:
        raise Refused("building the cluster's programs needs Go 1.26 or newer on the path; install it and try again")
    return run(
        ["go", *arguments],
        doing=f"building {module}",
        cwd=MODULES / module,
        environment={"CGO_ENABLED": "0"},
        timeout_seconds=BUILD_SECONDS,
    )


def size_of(binaries: Binaries) -> str:
    """What both folders take on the disk, for the report of `build`."""
    return subprocess.run(
        ["du", "-shc", binaries.kubernetes, binaries.companions], capture_output=True, text=True, check=True
    ).stdout.split("\n")[-2]
