"""Build hook: the gateway's hot path goes into the wheel compiled, beside its source; nothing else changes.

mypyc makes machine code of `modules`, the C compiler of `c-modules`.

`SHOAL_COMPILE` decides: `auto` (default) compiles where mypyc and a C compiler are there and says so where not,
`always` fails instead, `never` leaves a pure wheel. An editable install is never compiled.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_CHOICES = ("auto", "always", "never")
_GROUP = "shoal_gateway"
_CHECKER = """\
[mypy]
# `make check` is strict; here types only choose the machine code, with or without the libraries at hand.
python_version = {version}
ignore_missing_imports = True
follow_untyped_imports = False
check_untyped_defs = True
"""


class CannotCompile(Exception):
    """What is missing, in one sentence."""


class CompileHook(BuildHookInterface[Any]):
    """Compiles those of `packages`' modules that the configuration names."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is put together."""
        choice = os.environ.get("SHOAL_COMPILE", "auto")
        if choice not in _CHOICES:
            raise CannotCompile(f"SHOAL_COMPILE must be one of {', '.join(_CHOICES)}, not {choice!r}.")
        if version == "editable" or choice == "never":
            return
        missing = _missing()
        if missing and choice == "always":
            raise CannotCompile(missing)
        if missing:
            self.app.display_warning(f"The gateway in this wheel is not compiled and slower for it: {missing}")
            return
        self._scratch = Path(tempfile.mkdtemp(prefix="shoal-compile-"))
        for made in _compile(Path(self.root), self.config, self._scratch):
            build_data["force_include"][str(made)] = str(made.relative_to(self._scratch))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Called when it is written."""
        scratch = getattr(self, "_scratch", None)
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _missing() -> str:
    try:
        import mypyc.build  # noqa: F401
        import setuptools  # noqa: F401
    except ImportError as error:
        return f"the build environment has no {error.name}; install mypy and setuptools there."
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = os.environ.get("CC", compiler).split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}); install gcc and libc6-dev."
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        return f"there is no {header}; install the headers of this Python (python3-dev)."
    return ""


def _compile(root: Path, config: dict[str, Any], scratch: Path) -> list[Path]:
    """The extension modules, at their places below `scratch`."""
    from mypyc.build import mypycify
    from setuptools import Distribution, Extension

    for package in config["packages"]:
        shutil.copytree(root / package, scratch / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    checker = scratch / "mypy.ini"
    checker.write_text(_CHECKER.format(version=f"{sys.version_info.major}.{sys.version_info.minor}"))
    paths = [f"{module.replace('.', '/')}.py" for module in config["modules"]]
    in_c = [Extension(module, [f"{module.replace('.', '/')}.c"]) for module in config["c-modules"]]
    before = Path.cwd()
    # mypyc names modules by their paths from here, and puts its C files here.
    os.chdir(scratch)
    try:
        extensions = mypycify(
            ["--config-file", str(checker), "--cache-dir", os.devnull, *paths],
            opt_level="2",
            debug_level="0",
            group_name=_GROUP,
            target_dir="c",
        )
        command = Distribution({"name": _GROUP, "ext_modules": [*extensions, *in_c]}).get_command_obj("build_ext")
        command.inplace = True
        command.build_temp = command.build_lib = "objects"
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return sorted(made for made in scratch.rglob("*.so") if made.relative_to(scratch).parts[0] != "objects")
