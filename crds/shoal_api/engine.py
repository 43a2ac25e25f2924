"""`spec.engine`: the program that computes, its flags and its environment."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from shoal_api import engine_flags
from shoal_api.kubernetes_values import SecretName
from shoal_api.rules import Kept, Part, Rule

Argument = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    Kept(
        Rule(
            "",
            f"!self.matches('{engine_flags.OWNED}')",
            lambda argument: not engine_flags.is_owned(argument),
            "Shoal sets the address, name, keys, TLS, model and parallelism of the engine itself; remove this flag "
            "(names: spec.model.names, parallelism: spec.parallelism)",
        ),
        Rule(
            "",
            f"!self.matches('{engine_flags.CODE}')",
            lambda argument: not engine_flags.loads_code(argument),
            "flags that load a configuration file or code of the caller's own are refused",
        ),
        Rule(
            "",
            f"!self.matches('{engine_flags.LOGGING}')",
            lambda argument: not engine_flags.logs_prompts(argument),
            "prompts and answers never go into logs; remove this flag",
        ),
    ),
]


class KeySelector(Part):
    """A key of a Secret or ConfigMap in the model's own namespace."""

    name: SecretName
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    optional: bool = False


class ValueFrom(Part):
    """Where an environment variable's value comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            lambda v: (v.secret_key_ref is None) != (v.config_map_key_ref is None),
            "give exactly one of secretKeyRef and configMapKeyRef",
        ),
    )

    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(Part):
    """An environment variable of the engine."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "valueFrom",
            "!(has(self.valueFrom) && has(self.value) && self.value != '')",
            lambda e: e.value_from is None or not e.value,
            "give value or valueFrom, not both",
        ),
        Rule(
            "name",
            "!self.name.matches('" + engine_flags.FORBIDDEN_ENV + "')",
            lambda e: not engine_flags.is_forbidden_env(e.name),
            "Shoal sets the variables of Ray Serve, of its own and VLLM_API_KEY itself; remove this one",
        ),
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, StringConstraints(max_length=4096)] = ""
    value_from: ValueFrom | None = None


class EngineKind(StrEnum):
    """The engines Shoal can run."""

    VLLM = "vllm"


class Engine(Part):
    """The program that computes, with its own flags."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "env",
            "self.env.all(e, self.env.exists_one(o, o.name == e.name))",
            lambda e: len({v.name for v in e.env}) == len(e.env),
            "a variable stands twice in the list",
        ),
    )

    kind: EngineKind = EngineKind.VLLM
    args: list[Argument] = Field(
        default_factory=list,
        max_length=64,
        description="The engine's own flags, one list item per word, passed through.",
    )
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    image: Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\s]*$")] = Field(
        default="", description="Container image with the replica program; empty: the installation's."
    )
