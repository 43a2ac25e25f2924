"""`spec.model`: what is served, under which names, and where the weights come from."""

import re
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from shoal_api.kubernetes_values import SecretName
from shoal_api.rules import Part, Rule

SOURCE_SCHEMES = ("hf", "pvc", "s3", "oci", "file")

_HUB = "^hf://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(@[A-Za-z0-9._/-]+)?$"
_CLAIM = "^pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(/[^/]+)*/?$"
_BUCKET = "^(s3|oci)://[A-Za-z0-9][^ ]*$"
_FILE = "^file:///[^/]"
_PARENT = "/[.][.](/|$)"

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]


def _of(scheme: str, shape: str, message: str) -> Rule:
    """What a source of this scheme looks like."""
    return Rule(
        "source",
        f"!self.source.startsWith('{scheme}') || self.source.matches('{shape}')",
        lambda m: not m.source.startswith(scheme) or bool(re.search(shape, m.source)),
        message,
    )


class Credentials(Part):
    """Where the token for a private source is found."""

    secret_name: SecretName = Field(
        description="Secret in the model's own namespace; its key `token` (hf) or the AWS variables (s3)."
    )


class Model(Part):
    """What is served, and under which names."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "source",
            "self.source.matches('^(hf|pvc|s3|oci|file)://')",
            lambda m: m.source.partition("://")[0] in SOURCE_SCHEMES and "://" in m.source,
            "must begin with one of hf://, pvc://, s3://, oci:// or file:///",
        ),
        _of("file://", _FILE, "a file source is an absolute path with three slashes: file:///models/llama"),
        Rule(
            "source",
            f"!self.source.startsWith('file://') || !self.source.matches('{_PARENT}')",
            lambda m: not m.source.startswith("file://") or not re.search(_PARENT, m.source),
            "a file source must not contain '..'",
        ),
        _of("hf://", _HUB, "a Hugging Face source is hf://ORGANISATION/MODEL, optionally with @REVISION"),
        _of("pvc://", _CLAIM, "a claim source is pvc://CLAIM/PATH"),
        Rule(
            "source",
            f"!self.source.matches('^(s3|oci)://') || self.source.matches('{_BUCKET}')",
            lambda m: not m.source.startswith(("s3://", "oci://")) or bool(re.search(_BUCKET, m.source)),
            "an s3:// or oci:// source needs a bucket or registry after the slashes, and no spaces",
        ),
        Rule(
            "names",
            "self.names.all(n, self.names.exists_one(o, o == n))",
            lambda m: len(set(m.names)) == len(m.names),
            "a name stands twice in the list",
        ),
    )

    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="hf://ORG/MODEL[@REVISION], pvc://CLAIM/PATH, s3://BUCKET/PATH, oci://IMAGE "
        "or file:///PATH (only below roots that the installation allows)."
    )
    names: list[ModelName] = Field(
        default_factory=list,
        max_length=16,
        description="What clients may say in `model`; the first is canonical. Default: the object's name. "
        "An hf:// source's id is an alias too.",
    )
    credentials: Credentials | None = Field(default=None, description="Token for a private source.")
