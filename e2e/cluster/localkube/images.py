"""The door to images: build them from Dockerfiles, keep them by the hash of their inputs, load them into nodes."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from localkube import caching, machine
from localkube.commands import Refused, run
from localkube.layout import PAUSE_IMAGE, Layout, Node

SUITE = "bookworm"
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates", "libnuma1")
SOURCES = Path(__file__).resolve().parents[1] / "images"
# RUN steps that install packages trust what this machine trusts; nothing of it stays in the image
TRUST = ("/etc/ssl/certs:/etc/ssl/certs:ro", f"{SOURCES / 'uv'}:/etc/uv:ro")
BUILD_SECONDS = 3600
KEPT_ARCHIVES = 3
# buildah compresses OCI archives whatever it is told; this is its fastest way, for nodes too
COMPRESSION = ("--compression-format", "zstd", "--compression-level", "1")
# buildah works without a daemon and without namespaces; its store lies with the cache, so nothing is left elsewhere
ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}


def ctr(node: Node, *arguments: str, timeout_seconds: float = 60) -> str:
    """What the node's containerd says."""
    socket = ["--address", str(node.containerd_socket), "--namespace", "k8s.io"]
    return run(["ctr", *socket, *arguments], doing=f"asking containerd of {node.name}", timeout_seconds=timeout_seconds)


def load(node: Node, archive: Path) -> None:
    """Put an image into a node."""
    if not archive.is_file():
        raise Refused(f"{archive} is no file; give the path of an OCI archive, as build_image returns it")
    ctr(node, "images", "import", str(archive), timeout_seconds=BUILD_SECONDS)


def pause(place: Layout) -> Path:
    """The archive of the image that holds a pod's namespaces: one static program."""

    def compile_and_build(draft: Path) -> None:
        machine.install(machine.packages_missing(machine.IMAGE_PACKAGES, machine.present))
        folder = draft.with_suffix(".folder")
        folder.mkdir(parents=True, exist_ok=True)
        source = SOURCES / "pause.c"
        run(["gcc", "-Os", "-static", "-s", "-o", folder / "pause", source], doing="compiling pause")
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
        _bud(place, PAUSE_IMAGE, folder / "Dockerfile", folder, {}, volumes=())
        _push(place, PAUSE_IMAGE, draft)
        shutil.rmtree(folder)

    key = caching.key_of({"pause.c": (SOURCES / "pause.c").read_bytes(), "name": PAUSE_IMAGE.encode()})
    return caching.made_once(_archives(place) / f"pause-{key}.tar", compile_and_build)


def base(place: Layout) -> str:
    """The name, in buildah's store, of a Debian with Python: what BASE_IMAGE of a Dockerfile can be here."""
    archive, name = base_archive(place), base_name()
    if name not in _names(place):
        run(
            _buildah(place, "pull", f"oci-archive:{archive}"), doing="taking up the base image", environment=ENVIRONMENT
        )
    return name


def base_name() -> str:
    """The name of the base image, the same in buildah's store, in its archive and in containerd."""
    return f"localhost/shoal-base:{_base_key()}"


def _base_key() -> str:
    return caching.key_of({"suite": SUITE.encode(), "packages": " ".join(BASE_PACKAGES).encode()})


def base_archive(place: Layout) -> Path:
    """The archive of the base image, for loading it into nodes as it is."""
    name = base_name()

    def bootstrap(draft: Path) -> None:
        machine.install(machine.packages_missing(machine.IMAGE_PACKAGES, machine.present))
        folder = draft.with_suffix(".folder")
        caching.remove(folder)
        folder.mkdir(parents=True)
        tree = folder / "rootfs"
        packages = f"--include={','.join(BASE_PACKAGES)}"
        run(
            ["debootstrap", "--variant=minbase", packages, SUITE, tree],
            doing="bootstrapping Debian",
            timeout_seconds=BUILD_SECONDS,
        )
        caching.remove(tree / "var/cache/apt/archives")
        (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY rootfs /\nCMD ["python3"]\n')
        _bud(place, name, folder / "Dockerfile", folder, {}, volumes=())
        _push(place, name, draft)
        shutil.rmtree(folder)

    return caching.made_once(_archives(place) / f"base-{_base_key()}.tar", bootstrap)


def build_image(
    place: Layout,
    name: str,
    dockerfile: Path,
    context: Path,
    build_args: Mapping[str, str],
    inputs: Iterable[Path] | None = None,
) -> Path:
    """The OCI archive of a Dockerfile, built once per state of its inputs (default: all that git would track)."""
    files = sorted(inputs) if inputs is not None else tracked(context)
    contents = {str(path.relative_to(context)): path.read_bytes() for path in files}
    key = image_key(name, dockerfile.read_bytes(), build_args, contents)

    def make(draft: Path) -> None:
        machine.install(machine.packages_missing(machine.IMAGE_PACKAGES, machine.present))
        _bud(place, name, dockerfile, context, build_args, volumes=TRUST)
        _push(place, name, draft)

    short = name.rpartition("/")[2].replace(":", "-")
    archive = caching.made_once(_archives(place) / f"{short}-{key}.tar", make)
    forget_older(archive, short)
    return archive


def forget_older(archive: Path, short: str) -> None:
    """Of one image only the newest archives are kept; an engine's takes gigabytes."""
    archive.touch()  # the one in use is the newest, whenever it was built
    key_length = len(archive.stem) - len(short)
    same = [path for path in archive.parent.glob(f"{short}-*.tar") if len(path.stem) - len(short) == key_length]
    for path in sorted(same, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_ARCHIVES:]:
        path.unlink(missing_ok=True)


def image_key(name: str, dockerfile: bytes, build_args: Mapping[str, str], contents: Mapping[str, bytes]) -> str:
    """What an image is kept under."""
    arguments = {f"argument {key}": value.encode() for key, value in build_args.items()}
    files = {f"file {path}": content for path, content in contents.items()}
    return caching.key_of({"name": name.encode(), "dockerfile": dockerfile, **arguments, **files})


def tracked(context: Path) -> list[Path]:
    """The files of a checkout that git tracks or would track; outside a checkout, all files."""
    if shutil.which("git") and any((folder / ".git").exists() for folder in (context, *context.parents)):
        listed = run(["git", "-C", context, "ls-files", "-coz", "--exclude-standard"], doing="listing the context")
        return sorted(context / name for name in listed.split("\0") if name and (context / name).is_file())
    return sorted(path for path in context.rglob("*") if path.is_file())


def _archives(place: Layout) -> Path:
    return place.cache / "images"


def _buildah(place: Layout, *arguments: str | Path) -> Sequence[str | Path]:
    store = place.cache / "buildah"
    return ["buildah", "--root", store / "store", "--runroot", store / "run", *arguments]


def _names(place: Layout) -> str:
    listing = _buildah(place, "images", "--format", "{{.Name}}:{{.Tag}}")
    return run(listing, doing="listing images", environment=ENVIRONMENT)


def _bud(
    place: Layout, name: str, dockerfile: Path, context: Path, build_args: Mapping[str, str], volumes: Sequence[str]
) -> None:
    arguments = [word for key, value in build_args.items() for word in ("--build-arg", f"{key}={value}")]
    mounts = [word for volume in volumes for word in ("--volume", volume)]
    run(
        _buildah(place, "bud", "--layers", "--tag", name, "--file", dockerfile, *arguments, *mounts, context),
        doing=f"building {name}",
        environment=ENVIRONMENT,
        timeout_seconds=BUILD_SECONDS,
    )


def _push(place: Layout, name: str, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    run(
        _buildah(place, "push", *COMPRESSION, name, f"oci-archive:{archive}:{name}"),
        doing=f"writing {archive.name}",
        environment=ENVIRONMENT,
        timeout_seconds=BUILD_SECONDS,
    )
