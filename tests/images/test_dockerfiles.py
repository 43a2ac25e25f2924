"""The images are built from what is locked, run as nobody special, and start programs that exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from localkube import our_images

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "operator/shoal_operator/engine_locks"
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)


def versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def final_stage(text: str) -> str:
    return text[text.rindex("\nFROM ") :]


@each
def test_the_last_stage_runs_as_a_user_without_a_name_on_the_machine(dockerfile: Path) -> None:
    assert re.findall(r"^USER (.+)$", final_stage(dockerfile.read_text()), re.MULTILINE) == ["65532:65532"]


@each
def test_the_base_is_an_argument_and_nothing_else_is_taken_from_outside(dockerfile: Path) -> None:
    sources = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile.read_text(), re.MULTILINE)
    stages = {name for _, name in sources if name}

    from_outside = {source for source, _ in sources} - stages
    assert from_outside - {"${ENGINE}"} == {"${BASE_IMAGE}"}
    assert "${ENGINE}" not in from_outside or {"cpu", "gpu"} <= stages


@each
def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE):
        for source in line.replace("${ENGINE}", "gpu").split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in let_in, source


@each
def test_packages_come_with_their_hashes(dockerfile: Path) -> None:
    installs = re.findall(r"^.*(?:pip install|pip sync|uv sync).*$", dockerfile.read_text(), re.MULTILINE)

    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--locked" in line or "--no-deps" in line, line


@each
def test_our_code_is_the_last_layer(dockerfile: Path) -> None:
    steps = re.findall(r"^(COPY|RUN) (.+)$", final_stage(dockerfile.read_text()), re.MULTILINE)

    assert steps[-1] == ("COPY", "--from=code /code /opt/shoal")


@each
def test_the_program_that_is_started_exists(dockerfile: Path) -> None:
    found = re.search(r"^ENTRYPOINT (.+)$", final_stage(dockerfile.read_text()), re.MULTILINE)
    if dockerfile.parent.name == "control":
        assert found is None
    else:
        assert found is not None
        python, flag, module = json.loads(found[1])
        assert (python, flag) == ("python", "-m")
        assert importlib.util.find_spec(f"{module}.__main__")


def test_the_simulators_ray_is_the_engines() -> None:
    ours, engine = versions(ROOT / "images/simulator-ray/packages.txt"), versions(LOCKS / "cpu.txt")

    assert ours["ray"] == versions(LOCKS / "gpu.txt")["ray"]
    assert {name: version for name, version in ours.items() if engine.get(name) != version} == {}


def test_an_image_is_built_again_for_code_and_its_own_lock_only() -> None:
    def names(which: str) -> set[str]:
        return {str(path.relative_to(ROOT)) for path in our_images.inputs(our_images.ALL[which])}

    assert {"uv.lock", "serving/shoal_serving/gateway/relay.py", "images/control/Dockerfile"} <= names("control")
    assert "operator/shoal_operator/engine_locks/cpu.txt" in names("engine-cpu")
    assert not {name for name in names("control") if name.startswith(("docs/", "tests/", "e2e/", "images/engine/"))}
