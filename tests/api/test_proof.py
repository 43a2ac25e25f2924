"""Only who holds the model's key and means this very replica gets through."""

import pytest

from shoal_api import proof

KEY = proof.model_key(b"m" * 32, "uid-of-model")
NONCE = "0123456789abcdef" * 2


def test_each_model_has_a_key_of_its_own() -> None:
    assert proof.model_key(b"m" * 32, "another") != KEY
    assert proof.model_key(b"n" * 32, "uid-of-model") != KEY
    assert len(KEY) == 32


def test_a_right_mac_is_known_by_the_replica_it_was_made_for() -> None:
    assert proof.is_right_mac(KEY, "pod-1", proof.request_mac(KEY, NONCE, "pod-1"))


@pytest.mark.parametrize(
    "mac",
    [
        "",
        ":",
        NONCE,
        f"{NONCE}:",
        proof.request_mac(KEY, NONCE, "pod-2"),
        proof.request_mac(b"x" * 32, NONCE, "pod-1"),
        proof.request_mac(KEY, NONCE[:-1], "pod-1"),
        proof.request_mac(KEY, NONCE, "pod-1")[:-1],
        f"{NONCE}:{proof.hello_proof(KEY, NONCE, 'pod-1')}",
        "é" * 32 + ":x",
    ],
)
def test_any_other_mac_is_not(mac: str) -> None:
    assert not proof.is_right_mac(KEY, "pod-1", mac)


def test_a_proof_holds_for_one_nonce_and_one_replica() -> None:
    ours = proof.hello_proof(KEY, NONCE, "pod-1")

    assert ours != proof.hello_proof(KEY, NONCE[::-1], "pod-1")
    assert ours != proof.hello_proof(KEY, NONCE, "pod-2")
