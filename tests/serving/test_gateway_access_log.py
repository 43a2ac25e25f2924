"""The access log where it cannot be written: its lines are lost, and nothing else is."""

import asyncio
from pathlib import Path

from facts import soon
from fake_engine import engines
from gateway_process import a_gateway, a_route, ask, chat


def test_a_full_disk_costs_the_lines_of_the_access_log_and_no_time_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            nowhere = a_route(name="n", model_uid="uid-n", queue={"maxWaitSeconds": 0.3})
            await asyncio.to_thread(gateway.put, a_route(a), nowhere)
            for _ in range(2):
                assert (await ask(gateway, chat())).status == 200
                await soon(lambda: gateway.log().count("reason=AccessLogLost") == 1)
                assert (await ask(gateway, chat(model="n"))).error["code"] == "model_not_ready"

    with a_gateway(tmp_path, access_log="/dev/full") as gateway:
        asyncio.run(story())
