"""Leave out of Ray and Serve 2.60 what a cluster of one replica does not need, and bind what stays to where it belongs.

Ray has no switches for these. Each name is looked up before it is replaced: a Ray that lacks one fails at the start.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from shoal_serving.replica.door import App, Receive, Scope, Send

HOOK_VARIABLE = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Ray's workers call what this names before they do anything else."""
RAYLET_PATIENCE_SECONDS = 120.0
_SERVES_OWN = "/-/"
HOOK = f"{__name__}.trim_worker"

T = TypeVar("T")


def trim_head() -> None:
    """In the process that starts Ray: no autoscaler monitor, no log monitor, no API server, a small agent, patience."""
    from ray._private import node, parameter, services, utils

    class LeanParams(_existing(parameter, "RayParams")):  # type: ignore[misc]
        def __init__(self, **given: Any) -> None:
            lean = {"no_monitor": True, "include_log_monitor": False, "dashboard_agent_listen_port": 0}
            super().__init__(**{**given, **lean})

    parameter.RayParams = LeanParams
    _existing(node.Node, "start_api_server")
    node.Node.start_api_server = lambda _self, **_: None
    _existing(utils, "get_dashboard_dependency_error")
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    services.get_node = partial(patiently, _existing(services, "get_node"), time.monotonic, time.sleep)


def patiently(get_node: Callable[..., T], clock: Callable[[], float], sleep: Callable[[float], None], *given: Any) -> T:
    """Ask for the raylet's entry until it is there. Ray gives a busy machine 30 s, and asks without a pause."""
    deadline = clock() + RAYLET_PATIENCE_SECONDS
    while True:
        try:
            return get_node(*given)
        except RuntimeError:
            if clock() >= deadline:
                raise
            sleep(0.1)


def trim_worker() -> None:
    """In each of Ray's workers: no proxy; the replica's own servers on the replica's own address."""
    from ray.serve._private import proxy_state, replica

    _existing(proxy_state.ProxyStateManager, "_start_proxies_if_needed")
    proxy_state.ProxyStateManager._start_proxies_if_needed = lambda _self, _nodes: None
    start_http = _existing(replica, "start_asgi_http_server")

    async def start_asgi_http_server(app: App, *args: Any, **kwargs: Any) -> Any:
        # A replica that is started anew needs its port while connections of the last run still linger on it.
        return await start_http(_through_the_door(app), *args, **{**kwargs, "enable_so_reuseport": True})

    replica.start_asgi_http_server = start_asgi_http_server
    add_port = _existing(replica, "add_port_to_grpc_server")
    replica.add_port_to_grpc_server = partial(_add_local_port, add_port)


def _through_the_door(app: App) -> App:
    """Serve answers a few paths itself, to anybody; here they go to the door like all others."""

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path", "").startswith(_SERVES_OWN):
            scope["path"] = scope["path"].replace(_SERVES_OWN, "/serve/", 1)
        await app(scope, receive, send)

    return enter


def _add_local_port(add_port: Any, server: Any, address: str) -> Any:
    # Serve's calls between deployments: there is one deployment here, so nobody outside has to reach this server.
    return add_port(server, address.replace("[::]", "127.0.0.1"))


def _existing(owner: Any, name: str) -> Any:
    return getattr(owner, name)
