"""Simulated replicas behind a real gateway, faults that strike once whoever is asked, and what a client saw of it."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fake_engine import MASTER_KEY
from gateway_process import CREATED, PATIENT, Answer
from shoal_api import proof
from shoal_api.routes import Endpoint, ModelRoute
from shoal_serving.replica.admission import Admission
from shoal_serving.simulator.faults import Fault, Kind
from shoal_serving.simulator.knobs import Knobs
from simulated import Simulated, simulated

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@dataclass
class Replicas:
    """Simulated replicas of one model."""

    engines: list[Simulated]
    revisions: list[str]

    def route(self, *numbers: int, **fields: Any) -> ModelRoute:
        """All of them, or these."""
        fields["timeouts"] = PATIENT | fields.get("timeouts", {})
        return ModelRoute(
            namespace="default",
            name="m",
            uid="uid-m",
            created=CREATED,
            **{"served_name": "m", "names": ["m", "m-alias"], **fields},
            endpoints=[self.endpoint(number) for number in numbers or range(len(self.engines))],
        )

    def endpoint(self, number: int) -> Endpoint:
        port, revision = self.engines[number].port, self.revisions[number]
        return Endpoint(replica=f"r{number}", uid=f"uid-r{number}", host="127.0.0.1", port=port, revision=revision)

    def strike_once(self, kind: Kind, after: int, **fields: Any) -> None:
        """The next request meets this fault, on whichever replica."""
        self.heal()
        self.add(Fault(kind, after=after, **{"count": 1, **fields}))

    def add(self, fault: Fault) -> None:
        """One more fault; its count is that of all replicas together."""
        for engine in self.engines:
            engine.service.faults.add([fault])

    def heal(self) -> None:
        """No fault any more."""
        for engine in self.engines:
            engine.service.faults.clear()

    def asked(self, path: str, *numbers: int) -> list[dict[str, Any]]:
        """The journals' entries of this path, of all replicas or of these."""
        engines = [self.engines[number] for number in numbers] or self.engines
        found = [entry for engine in engines for entry in engine.service.journal.since(0)]
        return [entry for entry in found if entry["path"] == path]


@asynccontextmanager
async def replicas(count: int = 2, knobs: Knobs | None = None, revisions: str = "") -> AsyncIterator[Replicas]:
    """`revisions`: one letter per replica; all the same where it is empty."""
    key = proof.model_key(MASTER_KEY, "uid-m")
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(simulated(knobs, Admission(key, f"uid-r{number}", 0.0)))
            for number in range(count)
        ]
        yield Replicas(engines, list(revisions or "a" * count))


def a_prompt(path: str, **fields: Any) -> dict[str, Any]:
    """A stream that can be continued."""
    asked = {"messages": [{"role": "user", "content": "Hello"}]} if path == CHAT else {"prompt": "Hello"}
    return {"model": "m", "stream": True, "max_tokens": 12, "ignore_eos": True, **asked, **fields}


@dataclass
class Seen:
    """What a stream says, without what differs between two requests."""

    text: str
    usage: Any
    finish_reasons: list[str]
    is_done: bool
    error: str


def seen(answer: Answer) -> Seen:
    """Also checks what must be so in every stream: one id, no token ids."""
    assert answer.status == 200, answer.body
    assert b'token_ids":[' not in answer.body
    chunks = [json.loads(event) for event in answer.events if event != "[DONE]"]
    errors = [chunk["error"]["code"] for chunk in chunks if "error" in chunk]
    chunks = [chunk for chunk in chunks if "error" not in chunk]
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    texts = [choice["delta"].get("content") if "delta" in choice else choice["text"] for choice in choices]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return Seen(
        "".join(text or "" for text in texts),
        usages[0] if usages else None,
        [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        answer.events[-1:] == ["[DONE]"],
        errors[0] if errors else "",
    )
