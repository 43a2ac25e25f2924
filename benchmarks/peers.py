"""The programs that are measured: how each is had, configured and started over the same two engines."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from installing import Debian, Ours, PyPI
from shoal_api.routing import Continuation

MODEL = "bench"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a peer runs and whom it forwards to. Addresses are HOST:PORT."""

    program: Path
    folder: Path
    """Its own scratch folder."""
    port: int
    spare_ports: tuple[int, int]
    """For what else it insists on serving."""
    upstreams: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Start:
    """A command line, its environment and the files that must be written before."""

    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """By name below the scratch folder."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One program. `ready`: a path that answers once requests are served."""

    name: str
    source: Debian | PyPI | Ours | None
    start: Callable[[Setting], Start] | None
    ready: str = "/v1/models"
    start_seconds: float = 15.0
    behind_hello: bool = False
    """Its upstreams are replicas with a key, not open engines."""
    continuation: Continuation = Continuation.OFF
    remark: str = ""


def _haproxy(at: Setting) -> Start:
    config = f"""\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    # Without it the first event of a stream waits for more to come (a 50 ms first token took 220 ms).
    option http-no-delay
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend clients
    bind 127.0.0.1:{at.port}
    default_backend engines
backend engines
    balance leastconn
    http-reuse always
    server a {at.upstreams[0]}
    server b {at.upstreams[1]}
"""
    return Start([str(at.program), "-db", "-f", f"{at.folder}/haproxy.cfg"], files={"haproxy.cfg": config})


def _nginx(at: Setting) -> Start:
    temporary = "\n".join(
        f"    {kind}_temp_path {at.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""\
daemon off;
# One process, so that nothing is left should this one be killed; the worker's code path is the same.
master_process off;
worker_processes 1;
pid {at.folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
{temporary}
    keepalive_requests 100000000;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    tcp_nodelay on;
    upstream engines {{
        least_conn;
        server {at.upstreams[0]};
        server {at.upstreams[1]};
        keepalive 2048;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{at.port};
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""
    words = [str(at.program), "-p", str(at.folder), "-e", f"{at.folder}/error.log", "-c", f"{at.folder}/nginx.conf"]
    return Start(words, files={"nginx.conf": config})


def _vllm_router(at: Setting) -> Start:
    urls = [f"http://{upstream}" for upstream in at.upstreams]
    words = [str(at.program), "--worker-urls", *urls, "--policy", "round_robin", "--host", "127.0.0.1"]
    return Start(
        [*words, "--port", str(at.port), "--prometheus-port", str(at.spare_ports[0]), "--log-level", "warning"]
    )


def _smg(at: Setting) -> Start:
    urls = [f"http://{upstream}" for upstream in at.upstreams]
    words = [str(at.program), "launch", "--worker-urls", *urls, "--policy", "round_robin", "--host", "127.0.0.1"]
    return Start([*words, "--port", str(at.port), "--prometheus-port", str(at.spare_ports[0]), "--log-level", "warn"])


def _litellm(at: Setting) -> Start:
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"http://{upstream}/v1", "api_key": "none"},
            }
            for upstream in at.upstreams
        ]
    }
    env = {
        # No peer asks its clients for keys here; without this one it would not start without asking.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    words = [str(at.program), "--config", f"{at.folder}/config.json", "--host", "127.0.0.1", "--port", str(at.port)]
    return Start([*words, "--telemetry", "False"], env=env, files={"config.json": json.dumps(config)})


def _shoal(at: Setting) -> Start:
    files = ["--routes", f"{at.folder}/routes.json", "--master-key-file", f"{at.folder}/master.key"]
    addresses = ["--listen", f"127.0.0.1:{at.port}", "--internal", f"127.0.0.1:{at.spare_ports[0]}"]
    # -I: what is installed, whatever PYTHONPATH says; from a checkout it would run interpreted.
    return Start([str(at.program), "-I", "-m", "shoal_serving.gateway", *files, *addresses, "--access-log", "off"])


_OURS = Ours(Path(__file__).resolve().parents[1])

PEERS = {
    peer.name: peer
    for peer in (
        Peer("direct", None, None, remark="no peer: the load meets one engine; what engine and load can do at most"),
        Peer("haproxy", Debian("haproxy", "haproxy", "-v"), _haproxy, remark="one thread, `option http-no-delay`"),
        Peer("nginx", Debian("nginx", "nginx", "-v"), _nginx, remark="one process, `proxy_buffering off`"),
        Peer("vllm-router", PyPI("vllm-router", "0.1.17", "vllm-router"), _vllm_router, remark="round robin"),
        Peer("smg", PyPI("smg", "1.13.0", "smg"), _smg, start_seconds=30, remark="round robin"),
        Peer(
            "litellm",
            PyPI("litellm", "1.106.2", "litellm", extra="proxy"),
            _litellm,
            ready="/health/liveliness",
            start_seconds=90,
            remark="one worker, no keys asked",
        ),
        Peer("shoal", _OURS, _shoal, behind_hello=True, remark="one process; access log off, as with the others"),
        Peer(
            "shoal-exact",
            _OURS,
            _shoal,
            behind_hello=True,
            continuation=Continuation.EXACT,
            remark="the same, ready to continue every stream on another replica",
        ),
    )
}


class NoSuchPeer(ValueError):
    """The text names those that there are."""


def chosen(names: str) -> list[Peer]:
    """The peers of a comma-separated list; direct always comes first, since the others are held against it."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in PEERS:
            raise NoSuchPeer(f"--peers: there is no peer {name}; there are {', '.join(PEERS)}")
    return [peer for name, peer in PEERS.items() if name in wanted or name == "direct"]
