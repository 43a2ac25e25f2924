"""The folder of one `shoal up`: its lock, its keys, its routes and status, the logs of its replicas."""

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

STATUS_FILE = "status.json"
_LOCK_FILE = "lock"
_SCRATCH_LIST = "scratch"
_SCRATCH_PREFIX = "shoal-"
_LOOKED_AT_SECONDS = 1.0
"""Who asks whether a folder is held holds it for a moment: that is not another `shoal up`."""


class InUse(Exception):
    """Another `shoal up` holds this folder."""


class RunDirectory:
    """Exclusive for as long as it is open; what an earlier, killed run left in it is removed."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root
        self._lock = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        if not _is_locked_within(self._lock, _LOOKED_AT_SECONDS):
            os.close(self._lock)
            raise InUse(str(root))
        self._clear(keep_logs=False)
        for folder in (self.logs, self.keys, self.python_path):
            folder.mkdir(mode=0o700)
        self.master_key = secrets.token_bytes(32)
        write_secret(self.master_key_file, self.master_key.hex())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear(keep_logs=True)
        os.close(self._lock)

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def python_path(self) -> Path:
        """Our packages as links, for interpreters of another environment."""
        return self.root / "python"

    @property
    def master_key_file(self) -> Path:
        return self.keys / "master"

    @property
    def routes_file(self) -> Path:
        return self.root / "routes.json"

    @property
    def status_file(self) -> Path:
        return self.root / STATUS_FILE

    def scratch(self) -> Path:
        """A new folder with a short path: sockets below it must fit into the 107 characters of an address."""
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX))
        with (self.root / _SCRATCH_LIST).open("a") as known:
            known.write(f"{folder}\n")
        return folder

    def _clear(self, *, keep_logs: bool) -> None:
        try:
            known = (self.root / _SCRATCH_LIST).read_text().split("\n")
        except FileNotFoundError:
            known = []
        for line in filter(None, known):
            remove_scratch(Path(line))
        for path in (self.keys, self.python_path, *(() if keep_logs else (self.logs,))):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.routes_file, self.status_file, self.root / _SCRATCH_LIST):
            path.unlink(missing_ok=True)


def remove_scratch(folder: Path) -> None:
    """Remove a folder made by `scratch`, and nothing else."""
    if folder.name.startswith(_SCRATCH_PREFIX) and folder.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _is_locked_within(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def is_held(root: Path) -> bool:
    """Whether a running `shoal up` holds this folder."""
    try:
        lock = os.open(root / _LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write_secret(file: Path, text: str) -> None:
    """Write a file that nobody else can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)


def write_whole(file: Path, text: str) -> None:
    """Replace a file in one step: whoever reads sees the old text or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)
