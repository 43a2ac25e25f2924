"""The folder operator/ never shadows the standard library, and the floors hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_standard_operator_is_found_from_the_root() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.__file__)"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert not Path(found).is_relative_to(ROOT)


def test_the_rooms_are_no_packages() -> None:
    rooms = ["crds", "operator", "serving", "tests", "tests/api", "tests/operator", "tests/serving", "tests/support"]

    assert [room for room in rooms if (ROOT / room / "__init__.py").exists()] == []


def test_every_module_lies_in_one_of_the_three_packages() -> None:
    stray = [
        str(path.relative_to(ROOT))
        for room, package in (("crds", "shoal_api"), ("operator", "shoal_operator"), ("serving", "shoal_serving"))
        for path in (ROOT / room).rglob("*.py")
        if not path.is_relative_to(ROOT / room / package)
    ]

    assert stray == [], "importable when installed editable, absent from the wheel"
