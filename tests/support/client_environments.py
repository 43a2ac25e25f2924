"""Environments of their own for the clients that stories speak with: made once for each lock, found by its hash."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from localkube import caching


def python_of(lock: Path) -> Path:
    """The Python that has what a locked list of packages says."""
    folder = _cache(lock.stem, lock)
    python = folder / "bin" / "python"
    with caching.locked(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", "3.11", folder], check=True)
            subprocess.run([*uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock], check=True)
            (folder / "complete").touch()
    return python


def node_folder(source: Path) -> Path:
    """A folder with the scripts of `source` and the modules that its package-lock.json names."""
    folder = _cache("node", source / "package-lock.json")
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(source / file, folder)
        subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=folder, check=True)
        (folder / "complete").touch()
    for script in source.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def _cache(name: str, lock: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "shoal" / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
