"""What an API server does with a custom resource, in small: defaults, schema, closed objects, CEL.

The CEL is evaluated by the `common-expression-language` wheel, the schema by jsonschema; they do not know our rules.
"""

import copy
from typing import Any

import cel
import jsonschema


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """The value with the schema's defaults filled in, as structural defaulting does."""
    if isinstance(value, dict) and "properties" in schema:
        filled = dict(value)
        for name, child in schema["properties"].items():
            if name not in filled and "default" in child:
                filled[name] = copy.deepcopy(child["default"])
            if name in filled:
                filled[name] = with_defaults(filled[name], child)
        return filled
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"]) for item in value]
    return value


def faults(manifest: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str]]:
    """(path, sentence) of everything an API server would refuse in the manifest."""
    whole = with_defaults(manifest, schema)
    return [*_unknown("", whole, schema), *_schema_faults(whole, schema), *_rule_faults("", whole, schema)]


def _unknown(path: str, value: Any, schema: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if isinstance(value, dict) and "properties" in schema:
        for name, child in value.items():
            if name not in schema["properties"]:
                found.append((f"{path}.{name}".lstrip("."), "unknown field"))
            else:
                found += _unknown(f"{path}.{name}", child, schema["properties"][name])
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += _unknown(f"{path}[{index}]", item, schema["items"])
    return found


def _schema_faults(value: Any, schema: dict[str, Any]) -> list[tuple[str, str]]:
    validator = jsonschema.Draft4Validator(_int_or_string(schema))
    found = []
    for error in validator.iter_errors(value):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
        if error.validator == "required":
            missing = error.message.split("'")[1]
            path = f"{path}.{missing}".lstrip(".")
        found.append((path, error.message))
    return found


def _int_or_string(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_int_or_string(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return schema | {"type": ["integer", "string"]}
    return {key: _int_or_string(item) for key, item in schema.items()}


def _rule_faults(path: str, value: Any, schema: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for rule in schema.get("x-kubernetes-validations", []):
        try:
            holds = cel.evaluate(rule["rule"], {"self": value})
        except (ValueError, RuntimeError, TypeError, KeyError) as error:  # the schema refuses such a value too
            found.append((path.lstrip("."), f"rule not evaluated: {error}"))
            continue
        if not holds:
            found.append(((path + rule.get("fieldPath", "")).lstrip("."), rule["message"]))
    if isinstance(value, dict) and "properties" in schema:
        for name, child in schema["properties"].items():
            if name in value:
                found += _rule_faults(f"{path}.{name}", value[name], child)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += _rule_faults(f"{path}[{index}]", item, schema["items"])
    return found
