"""The entries of a keys file: who may ask for which models. A key itself stands in no file, only its SHA-256."""

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from shoal_api.rules import BadManifest, Fault, Part, faults_of

EVERY_MODEL = "*"
"""Stands in `models` for all of them, those to come included."""

Priority = Literal["high", "normal", "low"]
"""How soon a key's requests have a turn where several wait."""

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_NOT_A_LIST = "a list of entries with name, sha256 and models is expected (`[]` where nobody may ask)"


def _is_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise PydanticCustomError(
            "digest",
            "64 hexadecimal digits are expected: the SHA-256 of the key, never the key itself "
            "(`shoal key new` makes both)",
        )
    return text.lower()


class ApiKey(Part):
    """One entry: whose key it is, its hash, and the names of models that may be asked for with it."""

    name: Annotated[str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")] = Field(
        description="whose key it is; unique in the file; stands in the access log"
    )
    sha256: Annotated[str, AfterValidator(_is_digest)] = Field(description="SHA-256 of the key as hexadecimal digits")
    models: list[Annotated[str, StringConstraints(max_length=200, pattern=r"^([*]|[A-Za-z0-9][A-Za-z0-9._:/@+-]*)$")]]
    priority: Priority = Field("normal", description="how soon its requests have a turn where several wait")


_ENTRIES = TypeAdapter(list[ApiKey])


def digest(key: bytes) -> bytes:
    """What is kept of a key. A key is long and random, so that its plain hash cannot be guessed."""
    return hashlib.sha256(key).digest()


def read(document: object) -> list[ApiKey]:
    """The entries of a parsed keys file. Raises BadManifest with everything that is wrong; no value is ever quoted."""
    if not isinstance(document, list):
        raise BadManifest([Fault("", _NOT_A_LIST)])
    try:
        entries = _ENTRIES.validate_python(document, strict=True)
    except ValidationError as error:
        raise BadManifest(faults_of(error)) from None  # its text would quote the file
    faults = [
        *_twice("name", (entry.name for entry in entries), "another entry has this name"),
        *_twice("sha256", (entry.sha256 for entry in entries), "another entry has this key"),
    ]
    if faults:
        raise BadManifest(faults)
    return entries


def _twice(field: str, values: Iterable[str], sentence: str) -> list[Fault]:
    seen: set[str] = set()
    faults = []
    for at, value in enumerate(values):
        if value in seen:
            faults.append(Fault(f"[{at}].{field}", sentence))
        seen.add(value)
    return faults
