"""The objects around a model's replicas: names, owners, selectors, keys."""

import base64
import re
from typing import Any

import pytest

from builders import a_model
from shoal_api import labels, proof
from shoal_api.modeldeployment import ModelDeployment
from shoal_operator import objects

MASTER = bytes(range(32))


def a_placed_model(name: str = "qwen", **spec: Any) -> ModelDeployment:
    return a_model(name, metadata={"namespace": "team-a", "uid": "uid-1"}, **spec)


GANG = {"parallelism": {"tensor": 4}, "resources": {"gpu": 2}}


def test_the_service_selects_rank_0_of_this_very_model() -> None:
    made = objects.service(a_placed_model())

    assert made["spec"]["selector"] == {labels.MODEL_UID: "uid-1", labels.RANK: "0"}
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["ports"] == [{"name": "http", "port": 30000, "targetPort": 30000, "protocol": "TCP"}]
    assert made["metadata"]["labels"][labels.MANAGED_BY] == labels.MANAGED_BY_SHOAL


def test_only_a_gang_gets_a_second_service_and_gateways_never_see_its_slices() -> None:
    assert objects.gang_service(a_placed_model()) is None
    assert objects.gang_service(a_placed_model(parallelism={"tensor": 2}, resources={"gpu": 2})) is None
    assert objects.gang_service(a_placed_model(parallelism={"tensor": 4}, resources={"gpu": 0})) is None

    made = objects.gang_service(a_placed_model(**GANG))

    assert made is not None
    assert made["spec"]["publishNotReadyAddresses"] is True
    assert labels.MANAGED_BY not in made["metadata"]["labels"]
    assert made["metadata"]["name"] != objects.service(a_placed_model(**GANG))["metadata"]["name"]


def test_everything_goes_with_its_model_and_holds_up_nobody() -> None:
    md = a_placed_model(**GANG)
    made = [
        objects.service(md),
        objects.gang_service(md),
        objects.service_account(md, MASTER),
        objects.secret(md, MASTER),
        objects.controller_revision(md, "rev", {}, 1),
    ]

    for manifest in made:
        assert manifest is not None
        assert manifest["metadata"]["namespace"] == "team-a"
        assert manifest["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "shoal.dev/v1alpha1",
                "kind": "ModelDeployment",
                "name": "qwen",
                "uid": "uid-1",
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]


def test_the_account_tells_which_key_the_secret_holds_and_nothing_of_the_key() -> None:
    md = a_placed_model()
    another = a_model("qwen", metadata={"namespace": "team-a", "uid": "uid-2"})
    asked = [(md, MASTER), (md, MASTER), (md, MASTER[::-1]), (another, MASTER)]
    marks = [objects.service_account(*each)["metadata"]["annotations"][labels.KEY] for each in asked]

    assert marks[0] == marks[1]
    assert len(set(marks)) == 3
    assert marks[0] not in proof.model_key(MASTER, "uid-1").hex()


def test_the_secret_holds_derived_keys_and_never_the_master_key() -> None:
    md = a_placed_model()
    data = {key: base64.b64decode(value).decode() for key, value in objects.secret(md, MASTER)["data"].items()}

    assert bytes.fromhex(data["model-key"]) == proof.model_key(MASTER, "uid-1")
    assert set(data) == {"model-key", "ray-token"}
    assert len({MASTER.hex(), *data.values()}) == 3
    assert objects.secret(md, MASTER) == objects.secret(md, MASTER)


def test_a_revision_keeps_the_template() -> None:
    made = objects.controller_revision(a_placed_model(), "0123456789", {"spec": {}}, 7)

    assert (made["metadata"]["name"], made["revision"]) == ("qwen-0123456789", 7)
    assert made["data"] == {"template": {"spec": {}}}
    assert made["metadata"]["labels"][labels.REVISION] == "0123456789"


NAMES = ("q", "7b", "m-7b", "m.7b", "a.b", "a-b", "x" * 52, "x" * 63, "x" * 64, "x" * 253, "9" + "x" * 252)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_labels_are_accepted_at_every_length(name: str) -> None:
    md = a_placed_model(name, **GANG)
    gang = objects.gang_service(md)
    assert gang is not None

    for manifest in (objects.service(md), gang):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
    for value in objects.model_labels(md).values():
        assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?", value)
    assert len(objects.own_name(md)) <= 63


def test_two_models_never_share_an_object() -> None:
    models = [a_placed_model(name, **GANG) for name in NAMES]
    services = [objects.service(md)["metadata"]["name"] for md in models] + list(map(objects.gang_service_name, models))

    assert len(set(services)) == 2 * len(NAMES)
    assert len({objects.own_name(md) for md in models}) == len(NAMES)
    assert len({objects.model_labels(md)[labels.MODEL] for md in models}) == len(NAMES)
