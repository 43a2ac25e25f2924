"""The replica's side of the treaty with gateways: hello, MAC, busy, drain, in the words of the real replica."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from shoal_api import proof
from shoal_serving.replica.admission import Admission, Refusal
from shoal_serving.replica.refusals import ANSWERS, BAD_NONCE, Answer
from shoal_serving.simulator.connection import Connection, Headers
from shoal_serving.simulator.faults import Fault, Kind

_MAC = proof.MAC_HEADER.encode()
_LIMIT = proof.LIMIT_HEADER.encode()
_NONCE = proof.NONCE_HEADER.encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of the replica itself; `headers` are whole lines."""

    status: int
    body: bytes
    headers: str = ""


def _reply(answer: Answer) -> Reply:
    lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    return Reply(answer.status, json.dumps(answer.body).encode(), lines)


REFUSALS: dict[Refusal, Reply] = {refusal: _reply(answer) for refusal, answer in ANSWERS.items()}


class Gatekeeper:
    """Lets gateways in; `admission` is None where anybody may come (--open)."""

    def __init__(self, admission: Admission | None, clock: Callable[[], float]) -> None:
        self.admission = admission
        self.ready = False
        self.in_flight = 0
        self._clock = clock

    @property
    def is_draining(self) -> bool:
        return self.admission is not None and self.admission.draining_since is not None

    def entered(self) -> None:
        self.in_flight += 1
        if self.admission is not None:
            self.admission.in_flight = self.in_flight

    def left(self) -> None:
        self.in_flight -= 1
        if self.admission is not None:
            self.admission.in_flight = self.in_flight

    def refusal(self, connection: Connection, headers: Headers) -> Reply | None:
        """Why this request is not let in; None where it is."""
        admission = self.admission
        if admission is None:
            return None
        mac = headers.get(_MAC, b"")
        limit = headers.get(_LIMIT, b"")
        if mac and mac == connection.right_mac and admission.draining_since is None and not limit:
            return None
        # The proof of a connection does not change; what it may cost to check it again is spared.
        if mac and mac == connection.right_mac and admission.draining_since is None and limit.isdigit():
            return REFUSALS["limit"] if admission.in_flight >= int(limit) else None
        refusal = admission.refusal(mac.decode("latin-1"), limit.decode("latin-1"), self._clock())
        if refusal != "misdirected":
            connection.right_mac = mac
        return None if refusal is None else REFUSALS[refusal]

    def knows(self, headers: Headers) -> bool:
        """Whether the sender may use the control paths."""
        return self.admission is None or self.admission.knows(headers.get(_MAC, b"").decode("latin-1"))

    def hello(self, headers: Headers, fault: Fault | None) -> Reply:
        admission = self.admission
        nonce = headers.get(_NONCE, b"").decode("latin-1")
        answer = None if admission is None else admission.answer_hello(nonce)
        if answer is None or admission is None:
            return _reply(BAD_NONCE)
        if fault is not None and fault.kind is Kind.HELLO_PROOF:
            answer = "0" * len(answer)
        elif fault is not None:
            answer = proof.hello_proof(admission.key, nonce, admission.replica_uid + "-of-another")
        return Reply(200, b"{}", f"{proof.PROOF_HEADER}: {answer}\r\n")

    def state(self) -> Reply:
        ready = self.ready and not self.is_draining
        state = {"inFlight": self.in_flight, "draining": self.is_draining, "ready": ready}
        return Reply(200, json.dumps(state).encode())

    def health(self, engine_is_dead: bool) -> Reply:
        """As the replica's door says it; in the open as vLLM itself does, without a body."""
        ready = self.ready and not self.is_draining and not engine_is_dead
        if self.admission is None:
            return Reply(200 if ready else 503, b"")
        return Reply(200 if ready else 503, json.dumps({"ready": ready}).encode())

    def begin_drain(self) -> None:
        if self.admission is not None:
            self.admission.begin_drain(self._clock())
        self.ready = False
