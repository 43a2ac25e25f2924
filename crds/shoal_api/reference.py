"""Render the reference pages from the treaty: `python -m shoal_api.reference FOLDER` writes them.

`modeldeployment.md` lists every field of the manifest, `conditions.md` every condition and reason.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from shoal_api import crd
from shoal_api.conditions import ConditionType, Reason

_MARK = "<!-- Generated from crds/shoal_api by `make crds`. Do not edit. -->\n"


def pages() -> dict[str, str]:
    """The text of each page by file name."""
    return {"modeldeployment.md": _modeldeployment(), "conditions.md": _conditions()}


def _modeldeployment() -> str:
    properties = crd.schema()["properties"]
    lines = [
        _MARK,
        "# ModelDeployment\n",
        (
            "`apiVersion: shoal.dev/v1alpha1`, `kind: ModelDeployment`, short name `mdep`. Always qualify the kind "
            "(`kubectl get modeldeployments.shoal.dev`): other groups have one of the same name.\n"
        ),
    ]
    for part in ("spec", "status"):
        lines += [f"## {part}\n", "| field | type | default | |", "|---|---|---|---|"]
        lines += list(_rows(part, properties[part]))
        lines += [""]
    rules = [f"- `{path}`: {message}" for path, message in dict.fromkeys(_rules("spec", properties["spec"]))]
    return "\n".join([*lines, "## Rules over fields\n", *rules, ""])


def _rows(path: str, node: dict[str, Any]) -> Iterator[str]:
    required = node.get("required", [])
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        is_part = "properties" in child or "properties" in child.get("items", {})
        default = "required" if name in required else "" if is_part else _default(child)
        yield f"| `{here}` | {_type(child)} | {default} | {_text(child)} |"
        yield from _rows(here, child)
        if "properties" in child.get("items", {}):
            yield from _rows(f"{here}[]", child["items"])


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " · ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    return str(node.get("type", "object"))


def _default(node: dict[str, Any]) -> str:
    return f"`{json.dumps(node['default'])}`" if "default" in node else ""


_BOUNDS = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("maxItems", "at most {} items"),
    ("maxLength", "at most {} characters"),
)


def _text(node: dict[str, Any]) -> str:
    bounds = [sentence.format(node[key]) for key, sentence in _BOUNDS if key in node]
    if node.get("exclusiveMinimum"):
        bounds[0] = f"more than {node['minimum']}"
    text = node.get("description", "").replace("|", "\\|")
    return f"{text} ({', '.join(bounds)})".strip() if bounds else text


def _rules(path: str, node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", []):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from _rules(f"{path}.{name}", child)
    if "items" in node:
        yield from _rules(f"{path}[]", node["items"])


def _conditions() -> str:
    lines = [_MARK, "# Conditions\n", "| condition | what it says |", "|---|---|"]
    lines += [f"| `{value}` | {text} |" for value, text in _meanings(ConditionType)]
    lines += ["", "## Reasons\n", "| reason | what it means |", "|---|---|"]
    lines += [f"| `{value}` | {text} |" for value, text in _meanings(Reason)]
    return "\n".join([*lines, ""])


def _meanings(kind: type[StrEnum]) -> list[tuple[str, str]]:
    """Each member's value with the docstring below it; every member must have one."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    statements = getattr(body, "body", [])
    texts = {}
    for statement, following in pairwise(statements):
        match statement, following:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return [(member.value, texts[member.name]) for member in kind]


if __name__ == "__main__":
    for file_name, text in pages().items():
        (Path(sys.argv[1]) / file_name).write_text(text)
