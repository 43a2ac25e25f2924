"""What the gateway program is told at its start; every fault is reported, all of them together."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from shoal_serving.gateway import keys
from shoal_serving.gateway.keys import BadKeys

ENVIRONMENT_PREFIX = "SHOAL_GATEWAY_"
_MIB = 1024 * 1024
_NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


class BadSettings(ValueError):
    """Settings that cannot be; `faults` has one sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes to take the routes from."""

    namespaces: tuple[str, ...] = ()
    """None: all of them."""
    kubeconfig: Path | None = None
    """None: the pod's own service account."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    routes: Path | Cluster
    master_key: bytes
    listen: Address
    internal: Address
    drain_seconds: float = 600.0
    settle_seconds: float = 0.0
    max_body_bytes: int = 32 * _MIB
    max_held_bytes: int = 512 * _MIB
    access_log: bool = True
    keys_file: Path | None = None


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """From the command line, else from SHOAL_GATEWAY_*; BadSettings names every fault."""
    parser = parser_of(environment)
    given = parser.parse_args(arguments)
    faults: list[str] = []
    master_key = b""
    routes = _routes(given, environment, faults)
    if not given.master_key_file:
        faults.append("--master-key-file: name the file with the installation's master key (32 bytes as hex text).")
    else:
        master_key = _master_key(Path(given.master_key_file), faults)
    listen = _address("--listen", given.listen, faults)
    internal = _address("--internal", given.internal, faults)
    keys_file = Path(given.keys_file) if given.keys_file else None
    if keys_file is not None:
        _check_keys(keys_file, faults)
        if given.allow_anonymous:
            faults.append("--allow-anonymous: with --keys-file everybody is asked for a key; give one of the two.")
    elif listen is not None and not listen.is_loopback and not given.allow_anonymous:
        faults.append(
            f"--listen: {listen} can be reached from other machines and nobody is asked for a key; listen on 127.0.0.1,"
            " name the keys with --keys-file, or add --allow-anonymous if anybody who can connect may use every model."
        )
    drain = _number("--drain-seconds", given.drain_seconds, 0, faults)
    settle = _number("--settle-seconds", given.settle_seconds or _settle_default(routes), 0, faults)
    body = _number("--max-body-bytes", given.max_body_bytes, 1, faults)
    held = _number("--max-held-bytes", given.max_held_bytes, 1, faults)
    access_log = {"on": True, "off": False}.get(given.access_log)
    if access_log is None:
        faults.append(f"--access-log: on or off, not {given.access_log!r}.")
    if body > held:
        faults.append(f"--max-held-bytes: {held:.0f} is less than one body may have (--max-body-bytes {body:.0f}).")
    if faults or routes is None or listen is None or internal is None:
        raise BadSettings(faults)
    return Settings(
        routes,
        master_key,
        listen,
        internal,
        drain,
        settle,
        int(body),
        int(held),
        access_log=access_log is True,
        keys_file=keys_file,
    )


def parser_of(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Every flag, its default taken from the environment; docs/reference/gateway.md lists the same."""
    parser = argparse.ArgumentParser(
        prog="python -m shoal_serving.gateway",
        description="The OpenAI-compatible address of a Shoal installation.",
        epilog=f"Every flag can also be given as {ENVIRONMENT_PREFIX}NAME, for example {ENVIRONMENT_PREFIX}LISTEN.",
    )

    def add(flag: str, default: str, told: str, metavar: str) -> None:
        name = variable(flag)
        shown = f" (default {default})" if default else ""
        parser.add_argument(flag, default=environment.get(name, default), help=told + shown, metavar=metavar)

    add("--routes", "", "the route document: models, names, endpoints; read again when it changes", "FILE")
    add(
        "--namespaces",
        "",
        "with --kubernetes: where to look for models, separated by commas (default: everywhere)",
        "LIST",
    )
    add(
        "--kubeconfig",
        "",
        "with --kubernetes: how to reach the cluster (default: in a pod its service account, else ~/.kube/config)",
        "FILE",
    )
    add("--master-key-file", "", "the installation's master key, 32 bytes as hex text", "FILE")
    add("--keys-file", "", "who may ask for what: a list of API keys as hashes; read again when it changes", "FILE")
    add("--listen", "127.0.0.1:8000", "where clients connect", "HOST:PORT")
    add("--internal", "127.0.0.1:9090", "where /livez, /readyz, /metrics and /load answer", "HOST:PORT")
    add("--drain-seconds", "600", "how long waiting requests are still served after SIGTERM", "SECONDS")
    add(
        "--settle-seconds",
        "",
        "how long new connections are still accepted after SIGTERM (default 5 with --kubernetes, where"
        " balancers need a moment to notice, else 0)",
        "SECONDS",
    )
    add("--max-body-bytes", str(32 * _MIB), "the largest request body", "BYTES")
    add("--max-held-bytes", str(512 * _MIB), "all request bodies that are held at one time", "BYTES")
    add("--access-log", "on", "one line per request on standard output", "on|off")

    def switch(flag: str, told: str) -> None:
        name = variable(flag)
        parser.add_argument(flag, action="store_true", default=environment.get(name, "") in ("1", "true"), help=told)

    switch("--kubernetes", "take the models from the ModelDeployments and EndpointSlices of a cluster, not from a file")
    switch("--allow-anonymous", "listen on an address that other machines reach, though nobody is asked for a key")
    return parser


def variable(flag: str) -> str:
    """The environment variable that says the same as a flag."""
    return ENVIRONMENT_PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def _routes(given: argparse.Namespace, environment: Mapping[str, str], faults: list[str]) -> Path | Cluster | None:
    if given.kubernetes:
        if given.routes:
            faults.append("--routes: with --kubernetes the models come from the cluster; give one of the two.")
        return _cluster(given.namespaces, given.kubeconfig, environment, faults)
    faults += [
        f"{flag}: means something only with --kubernetes."
        for flag, text in (("--namespaces", given.namespaces), ("--kubeconfig", given.kubeconfig))
        if text
    ]
    if given.routes:
        return Path(given.routes)
    faults.append("--routes: name the file with the route document, or take the models from a cluster (--kubernetes).")
    return None


def _cluster(namespaces: str, kubeconfig: str, environment: Mapping[str, str], faults: list[str]) -> Cluster:
    names = tuple(dict.fromkeys(name.strip() for name in namespaces.split(",") if name.strip()))
    faults += [
        f"--namespaces: {name!r} is not the name of a namespace; several are separated by commas."
        for name in names
        if not re.fullmatch(_NAMESPACE, name)
    ]
    if kubeconfig:
        _check_readable(Path(kubeconfig), faults)
        return Cluster(names, Path(kubeconfig))
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return Cluster(names)
    usual = Path(environment.get("HOME", "/")) / ".kube" / "config"
    if not usual.exists():
        faults.append(
            "--kubernetes: no cluster is known here; run in a pod with a service account, or name a kubeconfig with"
            " --kubeconfig."
        )
    return Cluster(names, usual)


def _settle_default(routes: Path | Cluster | None) -> str:
    return "5" if isinstance(routes, Cluster) else "0"


def _check_readable(path: Path, faults: list[str]) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        faults.append(f"--kubeconfig: {path} cannot be read ({error.strerror}).")


def _check_keys(path: Path, faults: list[str]) -> None:
    try:
        keys.read(path.read_bytes())
    except OSError as error:
        faults.append(f"--keys-file: {path} cannot be read ({error.strerror}).")
    except BadKeys as bad:
        faults.append(f"--keys-file: {path}: {bad}.")


def _master_key(path: Path, faults: list[str]) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        faults.append(f"--master-key-file: {path} cannot be read ({error.strerror}).")
    except ValueError:
        faults.append(f"--master-key-file: {path} must hold 64 hexadecimal digits and nothing else.")
    else:
        if len(key) == 32:
            return key
        faults.append(f"--master-key-file: {path} must hold 32 bytes as 64 hexadecimal digits, not {len(key)} bytes.")
    return b""


def _address(flag: str, text: str, faults: list[str]) -> Address | None:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        faults.append(f"{flag}: HOST:PORT is expected, like 127.0.0.1:8000, not {text!r}.")
        return None
    return Address(host, int(port))


def _number(flag: str, text: str, least: float, faults: list[str]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number < float("inf"):
        faults.append(f"{flag}: a number of at least {least:g} is expected, not {text!r}.")
        return max(least, 1.0)
    return number
