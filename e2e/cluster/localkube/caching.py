"""Name what was built after the hash of what it was built from, and build it once."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def key_of(inputs: Mapping[str, bytes]) -> str:
    """A short name for these inputs: the same for the same names and contents in any order, another for any change."""
    digest = hashlib.sha256()
    for name, content in sorted(inputs.items()):
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it, as inputs of a key."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes see, for as long as the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """The file or folder at `path`; when it is not there, `make` fills a draft beside it that takes its place whole."""
    with locked(path.parent / f".{path.name}.lock"):
        if not path.exists():
            draft = path.parent / f".{path.name}.draft"
            remove(draft)
            make(draft)
            draft.rename(path)
    return path


def remove(path: Path) -> None:
    """Remove a file or a whole folder, or nothing when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
