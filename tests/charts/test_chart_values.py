"""The values: each is explained, each has a type, and what is wrong is refused by its path."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

import values_reference
from chart import CHART

ROOT = CHART.parents[1]
TEXT = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def faults(values: dict[str, Any]) -> list[str]:
    """Paths of what the schema refuses."""
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(values)
    return sorted(".".join(str(step) for step in error.absolute_path) for error in found)


def changed(path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    *folders, last = path.split(".")
    place = values
    for folder in folders:
        place = place[folder]
    place[last] = value
    return values


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, child in schema["properties"].items():
        here = f"{path}.{name}".lstrip(".")
        if "properties" in child:
            yield from leaves(child, here)
        else:
            yield here


def test_every_value_is_explained_by_the_comment_above_it() -> None:
    assert [value.path for value in values_reference.values(TEXT) if not value.is_group and not value.text] == []


def test_the_schema_knows_exactly_the_values_of_the_file() -> None:
    known = {path for path in leaves(SCHEMA) if path != "global"}

    assert known == {value.path for value in values_reference.values(TEXT) if not value.is_group}


def test_the_page_of_values_is_the_rendered_one() -> None:
    assert (ROOT / "docs/reference/values.md").read_text() == values_reference.page(TEXT), "run `make crds`"


def test_the_values_as_they_are_pass() -> None:
    assert faults(VALUES) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gatway", {}),
        ("gateway.replica", 3),
        ("gateway.replicas", "3"),
        ("gateway.replicas", 0),
        ("gateway.service.type", "External"),
        ("gateway.service.port", 70000),
        ("gateway.podDisruptionBudget.maxUnavailable", 0),
        ("gateway.podAnnotations", {"a": True}),
        ("gateway.resources.limit", {"cpu": "1"}),
        ("gateway.ingress.hosts", [""]),
        ("images.control.repository", ""),
        ("images.control.repository", "registry/shoal:v1"),
        ("images.engine.digest", "sha256:12"),
        ("images.pullPolicy", "Sometimes"),
        ("images.prePull.maxUnavailable", "half"),
        ("images.prePull.images", ["two words"]),
        ("namespaces", ["Team"]),
        ("namespaces", ["a", "a"]),
        ("models.fileRoots", ["models"]),
        ("models.cache", {"claim": "c", "nodePath": "/c"}),
        ("apiKeys.enabled", "false"),
        ("monitoring.podMonitor.interval", "often"),
        ("test.timeoutSeconds", 0),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(path: str, value: Any) -> None:
    found = faults(changed(path, value))

    assert found
    assert all(path.startswith(fault) or fault.startswith(path) for fault in found)
