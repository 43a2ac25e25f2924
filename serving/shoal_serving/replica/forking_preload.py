"""What the fork server imports: the code of the engine's processes, so that each of them begins with it."""

import vllm.entrypoints.launchers.api_server.entry
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker  # noqa: F401

from shoal_serving.replica import forking

forking.use_server()
forking.share_server()
