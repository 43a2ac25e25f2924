"""Keys and proofs between gateway and replica: who is at the other end of a connection (semantics: Hello).

The installation has one master key. A model's key is derived from it and the ModelDeployment's UID, so the gateway
needs only the master key and a replica only its model's key. Every value is hex text, every key 32 bytes.
"""

import hmac
from hashlib import sha256

HELLO_PATH = "/shoal/hello"
"""`GET` with NONCE_HEADER; a replica answers 200 with PROOF_HEADER, its UID being part of the proof."""
DRAIN_PATH = "/shoal/drain"
"""`POST` by the replica program itself: no longer ready, refuse after the settle time. Needs a MAC."""
STATE_PATH = "/shoal/state"
"""`GET`: `{"inFlight": n, "draining": bool, "ready": bool}`. Needs a MAC."""

NONCE_HEADER = "x-shoal-nonce"
PROOF_HEADER = "x-shoal-proof"
MAC_HEADER = "x-shoal-mac"
LIMIT_HEADER = "x-shoal-limit"
"""How many requests the replica may hold at once; over it, it answers 503 with BUSY_HEADER."""
BUSY_HEADER = "x-shoal-busy"
"""`limit` or `draining`: our replica's own mark on a 503; the request waits again and costs no attempt."""
CONTINUE_HEADER = "x-shoal-continue"
"""On a token prompt that continues a cut answer: how many of its last ids are answer, which the replica may drop."""
DROPPED_HEADER = "x-shoal-dropped"
"""In the answer to such a request: how many trailing ids the replica dropped, since they end inside a character."""

NONCE_CHARACTERS = 32


def model_key(master_key: bytes, model_uid: str) -> bytes:
    """The key shared by the gateways and the replicas of one ModelDeployment."""
    return hmac.digest(master_key, b"shoal model key\n" + model_uid.encode(), sha256)


def fingerprint(key: bytes) -> str:
    """By which a key is known again; it tells nothing of the key."""
    return hmac.digest(key, b"shoal key fingerprint\n", sha256).hex()[:16]


def ray_token(master_key: bytes, model_uid: str) -> bytes:
    """By which the processes of a replica's own Ray cluster know each other; one per ModelDeployment."""
    return hmac.digest(master_key, b"shoal ray token\n" + model_uid.encode(), sha256)


def load_token(master_key: bytes) -> str:
    """What the operator shows a gateway's load stream, as a bearer token: only who holds the master key can make it."""
    return hmac.digest(master_key, b"shoal load token\n", sha256).hex()


def is_right_load_token(master_key: bytes, authorization: str) -> bool:
    """Whether this `authorization` header was made with the installation's master key."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {load_token(master_key)}".encode())


def hello_proof(key: bytes, nonce: str, replica_uid: str) -> str:
    """What the replica answers to a nonce: only the pod with this UID and this model's key can."""
    return hmac.digest(key, f"shoal hello\n{nonce}\n{replica_uid}".encode(), sha256).hex()


def request_mac(key: bytes, nonce: str, replica_uid: str) -> str:
    """The value of MAC_HEADER for every request on the connection that began with this nonce: `nonce:mac`."""
    return nonce + ":" + hmac.digest(key, f"shoal request\n{nonce}\n{replica_uid}".encode(), sha256).hex()


def is_right_mac(key: bytes, replica_uid: str, value: str) -> bool:
    """Whether a MAC_HEADER value was made with this model's key for this replica."""
    nonce, colon, _ = value.partition(":")
    if not colon or len(nonce) != NONCE_CHARACTERS or not value.isascii():
        return False
    return hmac.compare_digest(value, request_mac(key, nonce, replica_uid))
