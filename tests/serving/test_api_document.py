"""The OpenAPI document and the reference page tell of every path, status and error code that the gateway has."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shoal_serving.gateway import api_document, app, errors, route_table
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.surfaces import REALTIME_PATH, SURFACES, Dialect, Surface

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/api.md").read_text()
DOCUMENT: dict[str, Any] = app.for_clients(lambda: route_table.EMPTY, lambda: None).openapi()


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda surface: surface.path)
def test_every_inference_path_is_described(surface: Surface) -> None:
    operation = DOCUMENT["paths"][surface.path]["post"]
    (kind,) = operation["requestBody"]["content"]
    assert kind == ("multipart/form-data" if surface.is_form else "application/json")
    assert "model" in operation["requestBody"]["content"][kind]["schema"]["required"]
    assert ("text/event-stream" in operation["responses"]["200"]["content"]) == bool(surface.endings)
    shape = "MessagesError" if surface.dialect is Dialect.MESSAGES else "Error"
    for status in api_document.STATUSES:
        (content,) = operation["responses"][str(status)]["content"].values()
        assert content["schema"]["$ref"].endswith(f"/{shape}")
    assert f"`{surface.path}`" in PAGE or f"`POST {surface.path}`" in PAGE


def test_nothing_is_described_that_is_not_there() -> None:
    own = {"/v1/models", "/v1/models/{name}", "/health", REALTIME_PATH}
    assert set(DOCUMENT["paths"]) == own | {surface.path for surface in SURFACES.values()}
    assert set(DOCUMENT["components"]["schemas"]) == {"ModelObject", "ModelList", "Error", "MessagesError"}
    assert "422" not in DOCUMENT["paths"]["/v1/models/{name}"]["get"]["responses"]


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.MESSAGES])
def test_errors_have_the_shape_that_the_document_gives_them(dialect: Dialect) -> None:

    name = "MessagesError" if dialect is Dialect.MESSAGES else "Error"
    for refusal in (Refusal(404, "no", "model_not_found", "model"), Refusal(500, "no")):
        jsonschema.validate(errors.shaped(refusal, dialect, "id"), DOCUMENT["components"]["schemas"][name])


def test_the_page_has_every_code() -> None:
    found = {code for file in (ROOT / "serving/shoal_serving/gateway").glob("*.py") for code in _codes(file)}
    assert len(found) > 15
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    for status, code in found:
        is_told = [row for row in rows if f"`{code}`" in row and row.startswith((f"| {status} ", "| in the stream"))]
        assert is_told, f"docs/reference/api.md says nothing of {status} {code}"


def _codes(file: Path) -> Iterator[tuple[int, str]]:
    """Status and code of every refusal that is written down in a module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
            match node.args:
                case [ast.Constant(value=int(status)), _, ast.Constant(value=str(code)), *_]:
                    yield status, code
