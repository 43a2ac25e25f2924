"""Which tests meet the compiled wheel: those from which a chain of imports and started programs leads to it."""

import tomllib
from pathlib import Path

import pytest

import reaching

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOK = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
COMPILED = {*HOOK["modules"], *HOOK["c-modules"]}
MODULES = reaching.modules_below(
    *((ROOT / package).parent for package in HOOK["packages"]),
    *(ROOT / folder for folder in SETTINGS["tool"]["pytest"]["pythonpath"]),
)


TESTED_ON_THE_WHEEL = [
    ("serving/test_balancing.py", "imports a compiled module"),
    ("serving/test_token_ids.py", "imports what imports the one in C"),
    ("serving/test_upstream_silence.py", "imports what imports one"),
    ("serving/test_gateway_fault_table.py", "starts the gateway by a builder"),
    ("operator/test_load_source.py", "starts the gateway by the same builder"),
]
TESTED_ONCE = ["operator/test_planning.py", "serving/test_replica_door.py", "operator/test_shoal_up.py"]


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    """The compiled modules that each test reaches."""
    found = reaching.reached(list((ROOT / "tests").rglob("test_*.py")), MODULES)
    return {str(test.relative_to(ROOT / "tests")): modules & COMPILED for test, modules in found.items()}


def test_tests_that_reach_a_compiled_module_meet_the_wheel(reached: dict[str, set[str]]) -> None:
    for test, how in TESTED_ON_THE_WHEEL:
        assert reached[test], f"{test} {how}"
    for test in TESTED_ONCE:
        assert not reached[test], test


def test_each_compiled_module_is_reached_by_some_test(reached: dict[str, set[str]]) -> None:
    assert set.union(*reached.values()) == COMPILED
