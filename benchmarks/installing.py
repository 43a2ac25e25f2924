"""Get what is measured and what measures: Debian's packages by apt, peers from PyPI into environments of their own."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache/shoal-bench"


class NotInstalled(Exception):
    """Something is missing and cannot be had; the text is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Debian:
    """A program of a Debian package."""

    package: str
    program: str
    version_flag: str = "--version"


@dataclass(frozen=True, slots=True)
class PyPI:
    """A program of a PyPI package; the version is fixed, since figures without one say nothing."""

    package: str
    version: str
    program: str
    extra: str = ""

    @property
    def requirement(self) -> str:
        return f"{self.package}{f'[{self.extra}]' if self.extra else ''}=={self.version}"

    @property
    def folder(self) -> str:
        """Keyed by version, so that another version never meets the leftovers of the last one."""
        return f"{self.package}-{self.version}-py{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Ours:
    """This checkout as it is shipped: its wheel, compiled where SHOAL_COMPILE and this machine let it be."""

    root: Path
    inputs: tuple[str, ...] = ("pyproject.toml", "hatch_build.py", "uv.lock", "crds", "operator", "serving")

    def key(self) -> str:
        """Another for every change of what the wheel is made of."""
        found = hashlib.sha256(str(os.environ.get("SHOAL_COMPILE") == "never").encode())
        for name in self.inputs:
            top = self.root / name
            for path in sorted(top.rglob("*.*")) if top.is_dir() else [top]:
                if path.is_file() and "__pycache__" not in path.parts:
                    found.update(str(path.relative_to(self.root)).encode() + path.read_bytes())
        return found.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Installed:
    """A program that is there."""

    program: Path
    version: str


LOAD_TOOLS = (Debian("wrk", "wrk", "-v"), Debian("nghttp2-client", "h2load"), Debian("util-linux", "taskset"))


def installed(source: Debian | PyPI | Ours | None) -> Installed | None:
    """Whatever it is; None is nothing to install."""
    if isinstance(source, Debian):
        return debian(source)
    if isinstance(source, Ours):
        return ours(source)
    return None if source is None else pypi(source)


def debian(wanted: Debian) -> Installed:
    found = _which(wanted.program) or _install_debian(wanted)
    return Installed(found, _first_line([str(found), wanted.version_flag]))


def _which(program: str) -> Path | None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return Path(found) if found else None


def _install_debian(wanted: Debian) -> Path:
    by_hand = f"{wanted.program} is missing: run `apt-get install {wanted.package}` as root, or leave it out by --peers"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotInstalled(by_hand)
    # RUNLEVEL=1 keeps the package's own service from being started on its usual port.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    words = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", wanted.package]
    print(f"installing {wanted.package} …", flush=True)
    for attempt in (words, ["apt-get", "update", "--quiet"], words):
        done = subprocess.run(attempt, env=env, capture_output=True, text=True)
        found = _which(wanted.program)
        if found:
            return found
    raise NotInstalled(f"{by_hand} ({(done.stderr or done.stdout).strip()[-300:]})")


def pypi(wanted: PyPI, cache: Path = CACHE) -> Installed:
    home = cache / wanted.folder
    program, mark = home / "bin" / wanted.program, home / "complete"
    if not mark.exists():
        print(f"installing {wanted.requirement} …", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        _uv("venv", "--quiet", "--python", sys.executable, str(home))
        _uv("pip", "install", "--quiet", "--python", str(home / "bin/python"), wanted.requirement)
        mark.touch()
    if not program.exists():
        raise NotInstalled(f"{wanted.requirement} has no program {wanted.program}: name another version in peers.py")
    return Installed(program, wanted.version)


def wheel(wanted: Ours, cache: Path = CACHE, *, anew: bool = False) -> Path:
    """The wheel of this checkout, kept until what it is made of changes; `make wheel-test` always builds it anew."""
    folder = cache / f"wheel-{wanted.key()}"
    mark = folder / "complete"
    if anew or not mark.exists():
        print("building our wheel, which compiles for a minute …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(wanted.root))
        mark.touch()
    (built,) = folder.glob("*.whl")
    return built


def ours(wanted: Ours, cache: Path = CACHE) -> Installed:
    """The Python of an environment that has our wheel."""
    home = cache / f"shoal-{wanted.key()}"
    python, mark = home / "bin/python", home / "complete"
    if not mark.exists():
        built = wheel(wanted, cache)
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        _uv("venv", "--quiet", "--python", sys.executable, str(home))
        project = ("--directory", str(wanted.root), "--locked", "--no-dev", "--extra", "gateway", "--no-emit-project")
        _uv("export", "--quiet", *project, "--output-file", str(home / "locked.txt"))
        _uv("pip", "install", "--quiet", "--python", str(python), "-r", str(home / "locked.txt"))
        _uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", str(built))
        mark.touch()
    asks = "from shoal_serving.gateway import relay; print(relay.BUILD)"
    return Installed(python, f"this checkout, {_first_line([str(python), '-P', '-c', asks])}")


def _uv(*words: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotInstalled("uv is missing: run this by `uv run --no-sync python benchmarks/run.py`")
    done = subprocess.run([uv, *words], capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled(f"`uv {' '.join(words)}` failed: {done.stderr.strip()[-400:]}")


def _first_line(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
