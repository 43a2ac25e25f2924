"""What works only in the checkout shows: the built and compiled wheel has every file and imports, and serves as tested.

`python tests/against_wheel.py [--all] [PYTEST WORDS]`, by `make wheel-test`. Run are the tests from which a compiled
module is reached within the packages of those; the others meet the same source as in `make test`. `--all` runs them,
too, as `make nightly` does.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = ("tests/support", "tests/mutations", "benchmarks", "charts", "e2e/cluster", "e2e/kit")
_BUILD = "from shoal_serving.gateway import relay; print(relay.BUILD)"
_IMPORTS = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as missing:
                if missing.name.partition(".")[0] not in ("ray", "vllm"):  # live in the engine's own environment
                    raise
"""


def main(words: list[str]) -> int:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    os.environ["SHOAL_COMPILE"] = "always"
    sys.path[:0] = [str(ROOT / folder) for folder in ELSEWHERE]
    import installing  # of the benchmarks, which then measure the wheel that is built here

    wheel = installing.wheel(installing.Ours(ROOT), anew=True)
    left_out = _left_out(wheel, settings["packages"])
    if left_out:
        print(f"the wheel lacks {', '.join(left_out)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="shoal-wheel-") as folder:
        python = _environment(Path(folder), wheel)
        asked = subprocess.run([str(python), "-P", "-c", _BUILD], capture_output=True, text=True, check=True)
        if asked.stdout.strip() != "compiled":
            print(f"the relay of the wheel is not compiled but {asked.stdout}", file=sys.stderr)
            return 1
        subprocess.run([str(python.with_name("shoal")), "--help"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
        packages = [Path(package).name for package in settings["packages"]]
        subprocess.run([str(python), "-P", "-W", "ignore", "-c", _IMPORTS, *packages], cwd=folder, check=True)
        tests = [] if "--all" in words else _of_what_is_compiled(settings)
        words = [*tests, *(word for word in words if word != "--all")]
        return subprocess.run([str(python), "-P", "-m", "pytest", *words], cwd=ROOT).returncode


def _environment(scratch: Path, wheel: Path) -> Path:
    """The Python of an environment with the wheel, and all that its tests need."""
    locked, python = scratch / "locked.txt", scratch / "env/bin/python"
    extras = ("--extra", "operator", "--extra", "gateway")
    _uv("export", "--quiet", "--locked", *extras, "--no-emit-project", "-o", str(locked))
    _uv("venv", "--quiet", "--python", sys.executable, str(scratch / "env"))
    _uv("pip", "install", "--quiet", "--python", str(python), "-r", str(locked))
    _uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", str(wheel))
    return python


def _left_out(wheel: Path, packages: list[str]) -> list[str]:
    """The files of the packages that git would keep and that are not in the wheel."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *packages]
    kept = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    with zipfile.ZipFile(wheel) as content:
        there = set(content.namelist())
    return [file for file in kept if (ROOT / file).is_file() and file.partition("/")[2] not in there]


def _of_what_is_compiled(settings: dict[str, Any]) -> list[str]:
    import reaching

    hook = settings["hooks"]["custom"]
    folders = {*ELSEWHERE, *(str(Path(package).parent) for package in hook["packages"])}
    modules = reaching.modules_below(*(ROOT / folder for folder in folders))
    tests = list((ROOT / "tests").rglob("test_*.py"))
    compiled = {*hook["modules"], *hook["c-modules"]}
    return [str(test) for test, reached in reaching.reached(tests, modules).items() if reached & compiled]


def _uv(*words: str) -> None:
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
