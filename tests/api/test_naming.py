"""Object names are safe at every length, and a contested model name goes to the older model."""

import re

import pytest

from builders import a_model
from shoal_api import naming

LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


@pytest.mark.parametrize(
    "base", ["a", "qwen-7b", "x" * 63, "x" * 64, "x" * 253, "dots.in.name", "UPPER", "-odd-", "0", "ü", "a" * 50 + ".b"]
)
def test_every_object_name_is_a_dns_label(base: str) -> None:
    name = naming.object_name(base, "abc12", "0")

    assert LABEL.match(name)
    assert len(name) <= naming.LABEL_LIMIT
    assert name.endswith("-abc12-0")


def test_a_name_that_fits_is_kept_as_it_is() -> None:
    assert naming.object_name("qwen-7b", "k2x") == "qwen-7b-k2x"


def test_two_long_names_that_differ_at_the_end_do_not_meet() -> None:
    assert naming.object_name("x" * 80 + "a") != naming.object_name("x" * 80 + "b")


def test_dots_and_dashes_do_not_meet() -> None:
    assert naming.object_name("a.b") != naming.object_name("a-b")


def test_the_older_model_keeps_a_contested_name() -> None:
    old = a_model("old", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"}, model=_names("chat"))
    new = a_model("new", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"}, model=_names("chat", "newer"))

    grants = naming.grant([new, old])

    assert grants["default/old"].names == ("chat",)
    assert grants["default/new"].names == ("newer",)
    assert grants["default/new"].taken == (("chat", "default/old"),)


def test_models_of_one_age_go_by_namespace_and_name() -> None:
    grants = naming.grant([a_model("b", model=_names("x")), a_model("a", model=_names("x"))])

    assert grants["default/a"].names == ("x",)
    assert grants["default/b"].names == ()


def test_a_hub_id_is_an_alias_without_its_revision() -> None:
    md = a_model("m", model={"source": "hf://org/model@v1", "names": ["short"]})

    assert md.claimed_names == ("short", "org/model")
    assert md.canonical_name == "short"


def test_the_objects_name_is_the_default_name() -> None:
    assert a_model("m", model={"source": "file:///m"}).claimed_names == ("m",)


def _names(*names: str) -> dict[str, object]:
    return {"source": "file:///m", "names": list(names)}


def test_two_models_of_one_source_are_no_quarrel_over_its_id() -> None:
    source = {"source": "hf://org/model"}
    old = a_model("old", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"}, model=source)
    new = a_model("new", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"}, model=source)

    grants = naming.grant([new, old])

    assert grants["default/old"].names == ("old", "org/model")
    assert grants["default/new"] == naming.Grant(("new",), ())
