"""Decide whose request it is by the key that it shows, and which models that caller may ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import yaml

from shoal_api import keys
from shoal_api.keys import Priority
from shoal_api.routes import ModelRoute
from shoal_api.rules import BadManifest
from shoal_serving.gateway import route_table
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.route_table import RouteTable
from shoal_serving.gateway.waiting_room import Standing

SCHEME = "Bearer"
CHALLENGE = b"www-authenticate: %b\r\n" % SCHEME.encode()
"""The header line that goes with a 401."""
CODE = "invalid_api_key"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `models` is None where every model may be asked for."""

    name: str
    models: frozenset[str] | None
    priority: Priority = "normal"

    def may_use(self, route: ModelRoute, table: RouteTable) -> bool:
        """Whether one of the names that lead to this model is allowed: all names of a model mean the same."""
        models = self.models
        return models is None or any(name in models and table.by_name.get(name) is route for name in route.names)

    def names(self, table: RouteTable) -> Iterable[str]:
        """The names that this caller may see, canonical ones first."""
        names = route_table.names(table)
        return names if self.models is None else [name for name in names if self.may_use(table.by_name[name], table)]

    def standing(self, user: str, address: str) -> Standing:
        """In whose line a request waits: that of the key. Where nobody is asked for one, the `user` that the request
        names has a line, and without that the address from which it comes."""
        if self.name:
            return Standing(self.name, self.priority)
        return Standing(f"user {user}" if user else address)


ANYBODY = Caller("", None)
"""Who asks where no key is asked for."""

Keyring = Mapping[bytes, Caller]
"""Callers by the digest of their key: what is compared is never the key."""
NO_KEYS: Keyring = MappingProxyType({})


class BadKeys(ValueError):
    """A keys file that cannot be used; one sentence, without anything that stands in it as a value."""


def read(content: bytes) -> Keyring:
    """The keyring of a keys file (YAML or JSON)."""
    try:
        entries = keys.read(yaml.load(content, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        at = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise BadKeys(f"{at}this is not YAML") from None
    except BadManifest as bad:
        raise BadKeys(str(bad)) from bad
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError):  # a day or a number that does not exist
        raise BadKeys("this is not YAML") from None
    return MappingProxyType({bytes.fromhex(entry.sha256): _caller(entry) for entry in entries})


def identify(lines: Iterable[tuple[bytes, bytes]], keyring: Keyring | None) -> Caller | Refusal:
    """Whose request it is, by its header lines (names in lower case); without a keyring nobody is asked."""
    if keyring is None:
        return ANYBODY
    shown: set[bytes] = set()
    for name, value in lines:
        if name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                return Refusal(401, "The Authorization header must be `Bearer` and the API key.", CODE)
            shown.add(credentials.strip())
        elif name == b"x-api-key":
            shown.add(value.strip())
    shown.discard(b"")
    if len(shown) > 1:
        return Refusal(401, "The request shows two different API keys; send one.", CODE)
    for key in shown:
        caller = keyring.get(keys.digest(key))
        return caller or Refusal(401, "The API key is not valid.", CODE)
    return Refusal(401, "Send an API key, as `Authorization: Bearer KEY` or as `x-api-key: KEY`.", CODE)


def denied(model: str) -> Refusal:
    """403 for a model that is there and not for this caller."""
    return Refusal(403, f"The API key may not be used for the model `{model}`.", "permission_denied", "model")


def _caller(entry: keys.ApiKey) -> Caller:
    models = None if keys.EVERY_MODEL in entry.models else frozenset(entry.models)
    return Caller(entry.name, models, entry.priority)
