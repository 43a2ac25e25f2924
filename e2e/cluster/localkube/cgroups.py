"""The door to cgroups: a root per node in every v1 hierarchy, else two kubelets remove each other's pods."""

from pathlib import Path

from localkube.layout import CGROUP_FOLDER, PREFIX, Node


def hierarchies(folder: Path = CGROUP_FOLDER) -> list[Path]:
    """The mounted v1 hierarchies that kubelet and runc use; links to others are not followed."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and (path / "tasks").exists()
    )


def make(node: Node, folder: Path = CGROUP_FOLDER) -> None:
    """Make the node's root everywhere; a new cpuset is empty and must be given what its parent has."""
    for hierarchy in hierarchies(folder):
        root = hierarchy / node.cgroup.lstrip("/")
        root.mkdir(exist_ok=True)
        for share in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / share).exists():
                (root / share).write_text((hierarchy / share).read_text())


def leftovers(pattern: str = f"{PREFIX}-*", folder: Path = CGROUP_FOLDER) -> list[Path]:
    """Every cgroup of ours, deepest first, as they must be removed."""
    if not folder.is_dir():
        return []
    roots = [root for hierarchy in folder.iterdir() if not hierarchy.is_symlink() for root in hierarchy.glob(pattern)]
    every = [path for root in roots for path in (root, *root.rglob("*")) if path.is_dir()]
    return sorted(every, key=lambda path: (-len(path.parts), path))


def thaw(node: Node, folder: Path = CGROUP_FOLDER) -> None:
    """Let paused containers run, since a frozen process does not die."""
    for path in (folder / "freezer").glob(f"{node.cgroup.lstrip('/')}/**/freezer.state"):
        path.write_text("THAWED")
