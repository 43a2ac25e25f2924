"""What a replica says to whom it does not let in: the same words before vLLM and before the simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoal_api import proof
from shoal_serving.replica.admission import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the replica itself."""

    status: int
    body: Mapping[str, Any]
    headers: Sequence[tuple[str, str]] = ()


def _error(status: int, message: str, kind: str, code: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)


ANSWERS: dict[Refusal, Answer] = {
    "misdirected": _error(
        421,
        "this request was not meant for this replica: it carries no valid proof of the model's gateway; "
        "send requests to the gateway",
        "invalid_request_error",
        "misdirected",
    ),
    "limit": _error(
        503,
        "this replica is running as many requests as it may; try again",
        "server_error",
        "replica_busy",
        (proof.BUSY_HEADER, "limit"),
    ),
    "draining": _error(
        503,
        "this replica is shutting down; try another one",
        "server_error",
        "replica_busy",
        (proof.BUSY_HEADER, "draining"),
        ("connection", "close"),
    ),
}
BAD_NONCE = _error(
    400,
    f"the header {proof.NONCE_HEADER} must be {proof.NONCE_CHARACTERS} hex digits",
    "invalid_request_error",
    "bad_nonce",
)
