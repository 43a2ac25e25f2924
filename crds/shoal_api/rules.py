"""One rule, two judges: each cross-field rule of the CRD is written once as CEL and once as Python, side by side."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition that a part of the manifest must meet.

    `field` is the path below the part that carries the rule (`""` for the part itself), `cel` is what the API server
    evaluates (`self` is the part, defaults applied), `holds` is the same in Python, `message` says what to do.
    """

    field: str
    cel: str
    holds: Callable[[Any], bool]
    message: str


def matching(pattern: str, message: str) -> Rule:
    """A rule for a text: the pattern, which both judges read alike, is found in it."""
    return Rule("", f"self.matches('{pattern}')", lambda text: bool(re.search(pattern, text)), message)


def _keep(rules: tuple[Rule, ...], value: Any) -> None:
    for rule in rules:
        if not rule.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": rule.message, "field": rule.field})


def _validations(rules: tuple[Rule, ...]) -> list[dict[str, str]]:
    return [
        {"rule": rule.cel, "message": rule.message} | ({"fieldPath": f".{rule.field}"} if rule.field else {})
        for rule in rules
    ]


class Kept:
    """Rules for a plain value (`Annotated[str, Kept(Rule(...))]`), so that a fault's path ends at that very value."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def keep(value: Any) -> Any:
            _keep(self.rules, value)
            return value

        return core_schema.no_info_after_validator_function(keep, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"x-kubernetes-validations": _validations(self.rules)}


class Part(BaseModel):
    """A part of the manifest: camelCase outside, nothing unknown accepted, its rules checked after its fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        _keep(self.rules, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rendered = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            rendered["x-kubernetes-validations"] = _validations(cls.rules)
        return rendered


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a manifest: where (`spec.engine.args`), and a sentence that says what to do."""

    path: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


class BadManifest(ValueError):
    """A manifest that cannot be accepted; `faults` lists everything that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults


def faults_of(error: ValidationError) -> list[Fault]:
    """The faults in a pydantic error, in the words of Kubernetes: `spec.engine.args[2]`."""
    return [_fault(detail) for detail in error.errors(include_url=False)]


def _fault(detail: ErrorDetails) -> Fault:
    path = ""
    for step in detail["loc"]:
        if step != "[key]":
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
    if detail["type"] == "rule" and detail["ctx"]["field"]:
        path += "." + detail["ctx"]["field"]
    return Fault(path.removeprefix("."), _SENTENCES.get(detail["type"], detail["msg"]))


_SENTENCES = {
    "extra_forbidden": "there is no such field; check the spelling",
    "missing": "this field is required",
}
