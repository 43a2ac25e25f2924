"""Run the tests once against the built and compiled wheel: what works only in the checkout shows. `make wheel-test`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BUILD = "from shoal_serving.gateway import relay; print(relay.BUILD)"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="shoal-wheel-") as folder:
        scratch = Path(folder)
        os.environ["SHOAL_COMPILE"] = "always"
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
        asked = subprocess.run([str(python), "-P", "-c", _BUILD], capture_output=True, text=True, check=True)
        if asked.stdout.strip() != "compiled":
            print(f"the relay of the wheel is not compiled but {asked.stdout}", file=sys.stderr)
            return 1
        return subprocess.run([str(python), "-P", "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode


def _uv(*words: str) -> None:
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
