"""Replicas without Ray: vLLM's own app behind our door, forked in seconds from a process that has imported vLLM.

Run by the engine's Python. Each line of stdin is the ReplicaConfig of one more replica; when it answers, the pids of it
and of its engine core stand in `pids.json` in its directory.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from typing import Any

import uvicorn

from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import config as configuration
from shoal_serving.replica import forking, ranks
from shoal_serving.replica.admission import Admission
from shoal_serving.replica.door import Door
from shoal_serving.replica.resuming import Resuming


class _Always:
    def is_ready(self) -> bool:
        return True


async def serve(engine: Any, config: ReplicaConfig) -> None:
    vllm = engine.Engine(engine.parse(config, ranks.lay_out(config)))
    app = await vllm.start()
    admission = Admission(configuration.read_model_key(config), config.replica_uid, 0.0)
    door = Door(Resuming(app, vllm.text_of, vllm.default_max_tokens), admission, _Always(), time.monotonic)
    server = uvicorn.Server(
        uvicorn.Config(door, host=config.host, port=config.port, lifespan="off", log_level="warning")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn offers a flag and no event)
        await asyncio.sleep(0.01)
    pids = config.directory / "pids.new"
    pids.write_text(json.dumps([os.getpid(), *vllm.process_ids()]))
    pids.rename(config.directory / "pids.json")
    await serving


def main() -> None:
    forking.start_server()
    engine = importlib.import_module("shoal_serving.replica.engine")  # while the server imports as well
    for line in sys.stdin:
        if os.fork() == 0:
            forking.join_server()
            forking.use_server()
            asyncio.run(serve(engine, ReplicaConfig.model_validate_json(line)))
            os._exit(1)


if __name__ == "__main__":
    main()
