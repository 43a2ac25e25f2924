"""Run the tests once against the built wheel: what only works in the checkout shows here. `make wheel-test`."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="shoal-wheel-") as folder:
        scratch = Path(folder)
        _uv("build", "--wheel", "--quiet", "--out-dir", str(scratch), str(ROOT))
        (wheel,) = scratch.glob("*.whl")
        locked = scratch / "locked.txt"
        _uv(
            "export",
            "--quiet",
            "--locked",
            "--extra",
            "operator",
            "--extra",
            "gateway",
            "--no-emit-project",
            "-o",
            str(locked),
        )
        python = scratch / "env/bin/python"
        _uv("venv", "--quiet", "--python", sys.executable, str(scratch / "env"))
        _uv("pip", "install", "--quiet", "--python", str(python), "-r", str(locked))
        _uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", str(wheel))
        return subprocess.run([str(python), "-P", "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode


def _uv(*words: str) -> None:
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
