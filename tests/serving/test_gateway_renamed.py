"""A model gets another canonical name: replicas of the old revision know only the old one, and serve until they go."""

import asyncio
from pathlib import Path

import pytest

from fleet import a_fleet, a_route_to
from gateway_process import a_gateway, ask

ASKED: list[tuple[str, dict[str, object]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}),
    ("/v1/completions", {"prompt": "hi", "max_tokens": 4}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 4}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}),
    ("/tokenize", {"prompt": "hi"}),
]


@pytest.mark.parametrize("name", ["new", "old"])
def test_a_replica_of_before_answers_to_the_new_name(tmp_path: Path, name: str) -> None:
    async def story() -> None:
        for path, body in ASKED:
            answer = await ask(gateway, {"model": name, **body}, path)
            assert (answer.status, answer.whole) == (200, True), (path, answer.body)

    with a_fleet(tmp_path, "before", served_name="old") as fleet, a_gateway(tmp_path) as gateway:
        gateway.put(a_route_to(*fleet, served_name="new", names=["new", "old"]))
        asyncio.run(story())
