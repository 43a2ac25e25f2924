"""What the fork server imports: the code of the engine's processes, so that each of them begins with it."""

import vllm.entrypoints.launchers.api_server.entry
import vllm.v1.engine.core
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker  # noqa: F401
from vllm.distributed import utils

from shoal_serving.replica import forking

forking.use_server()
forking.share_server()

utils.USE_SCHED_YIELD = False
# vLLM's processes poll their shared memory with sched_yield. Under Linux 6.18 that starves whoever else wants the core
# for seconds, the API process among them: tokens came in bursts, seconds apart.
