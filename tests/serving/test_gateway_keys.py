"""Who asks, and for what: decided by the hash of a key, told without a word of what stands in the file."""

import hashlib
import json
from typing import Any

import pytest

from gateway_process import a_route
from shoal_api.keys import Priority
from shoal_api.routes import RouteDocument
from shoal_serving.gateway import keys, route_table
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import ANYBODY, BadKeys, Caller, identify
from shoal_serving.gateway.waiting_room import Standing

Lines = list[tuple[bytes, bytes]]


def entry(name: str, key: str, models: list[Any] | None = None) -> dict[str, Any]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"name": name, "sha256": digest, "models": ["*"] if models is None else models}


def content(*entries: Any) -> bytes:
    return json.dumps(entries).encode()


RING = keys.read(content(entry("alice", "key-a"), entry("bob", "key-b", ["m"])))


def bearer(value: str) -> tuple[bytes, bytes]:
    return b"authorization", value.encode()


def api_key(value: str) -> tuple[bytes, bytes]:
    return b"x-api-key", value.encode()


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([bearer("Bearer key-a")], "alice"),
        ([bearer("bearer   key-a  ")], "alice"),
        ([api_key("key-b")], "bob"),
        ([(b"host", b"x"), bearer("Bearer key-b"), api_key("key-b")], "bob"),
        ([bearer("Bearer key-b"), bearer("Bearer key-b")], "bob"),
        ([bearer("Bearer "), api_key("key-a")], "alice"),
    ],
)
def test_a_key_is_known_by_either_header(lines: Lines, name: str) -> None:
    caller = identify(lines, RING)
    assert isinstance(caller, Caller)
    assert caller.name == name


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "Send an API key"),
        ([bearer("Bearer")], "Send an API key"),
        ([api_key(" ")], "Send an API key"),
        ([bearer("Bearer key-c")], "not valid"),
        ([api_key(hashlib.sha256(b"key-a").hexdigest())], "not valid"),
        ([(b"authorization", b"Bearer \xff\xfe")], "not valid"),
        ([bearer("Basic a2V5LWE=")], "must be `Bearer`"),
        ([bearer("key-a")], "must be `Bearer`"),
        ([bearer("Bearer key-a"), api_key("key-b")], "two different"),
        ([bearer("Bearer key-a"), bearer("Bearer key-b")], "two different"),
        ([api_key("key-a"), api_key("nonsense")], "two different"),
    ],
)
def test_everything_else_is_a_401_that_says_why_and_never_what_was_sent(lines: Lines, said: str) -> None:
    refusal = identify(lines, RING)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, "invalid_api_key")
    assert said in refusal.message
    assert "key-" not in refusal.message


def test_without_a_keyring_nobody_is_asked_and_with_an_empty_one_nobody_is_known() -> None:
    assert identify([bearer("Bearer anything")], None) is ANYBODY
    assert isinstance(identify([bearer("Bearer anything")], keys.read(b"[]")), Refusal)


def test_a_caller_may_use_a_model_by_each_of_its_names_and_sees_no_other() -> None:
    older = a_route(name="m", model_uid="u1", names=["m", "both"])
    younger = a_route(name="n", model_uid="u2", names=["n", "both"])
    table = route_table.make(RouteDocument(models=[older, younger]))

    def visible(*models: str) -> list[str]:
        return list(Caller("x", frozenset(models)).names(table))

    assert list(ANYBODY.names(table)) == ["m", "n", "both"]
    assert visible("m") == visible("both") == ["m", "both"]
    assert visible("n") == ["n"], "a name that another model holds gives nothing"
    assert visible("nobody") == visible() == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "a list of entries"),
        (b"{}", "a list of entries"),
        (b"keys: []", "a list of entries"),
        (b"[{", "this is not YAML"),
        (b"- {name: alice, since: 2026-02-30}", "this is not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- a: b: c", "line 1: this is not YAML"),
        (content("text"), "[0]"),
        (content({"name": "a", "models": []}), "[0].sha256: this field is required"),
        (content(entry("a", "secret"), {"name": "b", "sha256": "secret", "models": []}), "[1].sha256: 64 hexadecimal"),
        (content(entry("a b", "secret")), "[0].name"),
        (content(entry("", "secret")), "[0].name"),
        (content(entry("a\nb", "secret")), "[0].name"),
        (content({**entry("a", "secret"), "name": 7}), "[0].name"),
        (content(entry("a", "secret", ["m", 1])), "[0].models[1]"),
        (content(entry("a", "secret", ["m*"])), "[0].models[0]"),
        (content({**entry("a", "secret"), "key": "secret"}), "[0].key: there is no such field"),
        (content({**entry("a", "secret"), "priority": "highest"}), "[0].priority: Input should be 'high', 'normal' or"),
        (content({**entry("a", "secret"), "priority": 1}), "[0].priority: Input should be 'high', 'normal' or 'low'"),
        (content(entry("a", "x"), entry("a", "y")), "[1].name: another entry has this name"),
        (content(entry("a", "x"), entry("b", "x")), "[1].sha256: another entry has this key"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_the_place_and_no_value(document: bytes, said: str) -> None:
    with pytest.raises(BadKeys) as bad:
        keys.read(document)
    assert said in str(bad.value)
    assert "secret" not in str(bad.value)
    assert "\n" not in str(bad.value)


def test_yaml_and_json_and_upper_case_digits_are_read_alike() -> None:
    digest = hashlib.sha256(b"key-a").hexdigest().upper()
    ring = keys.read(f"- name: alice@example.org\n  sha256: {digest}\n  models: ['*']\n".encode())
    caller = identify([api_key("key-a")], ring)
    assert caller == Caller("alice@example.org", None)


@pytest.mark.parametrize(
    ("given", "priority"), [({}, "normal"), ({"priority": "high"}, "high"), ({"priority": "low"}, "low")]
)
def test_a_key_waits_in_a_line_of_its_own_in_the_class_of_its_priority(
    given: dict[str, str], priority: Priority
) -> None:
    caller = identify([api_key("key-a")], keys.read(content({**entry("alice", "key-a"), **given})))
    assert isinstance(caller, Caller)
    assert caller.standing("somebody", "10.0.0.1") == Standing("alice", priority)


@pytest.mark.parametrize(("user", "line"), [("", "10.0.0.1"), ("u1", "user u1"), ("10.0.0.1", "user 10.0.0.1")])
def test_without_keys_the_user_has_a_line_or_else_the_address(user: str, line: str) -> None:
    assert ANYBODY.standing(user, "10.0.0.1") == Standing(line, "normal")
