"""The access log tells how long who was sent away had waited; where it cannot be written, nothing else is lost."""

import asyncio
import re
import signal
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


def test_who_is_sent_away_at_the_end_of_a_drain_has_waited_until_then(tmp_path: Path) -> None:
    async def story() -> None:
        await asyncio.to_thread(gateway.put, a_route())
        held = asyncio.create_task(ask(gateway, chat()))
        await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
        gateway.process.send_signal(signal.SIGTERM)
        assert (await held).error["code"] == "gateway_stopping"
        await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path, "--drain-seconds=0.2") as gateway:
        asyncio.run(story())
    found = re.search(r"outcome=overloaded .* queue_ms=([0-9.]+) .* duration_ms=([0-9.]+)", gateway.log())
    assert found is not None
    assert float(found[2]) >= float(found[1]) > 100
