"""Faults on command: what they are, and which request meets which."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    """The listening socket is closed, for `seconds` or until cleared: connections are refused."""
    ACCEPT_CLOSE = "accept-close"
    """A connection is accepted and closed at once."""
    ACCEPT_HANG = "accept-hang"
    """A connection is accepted and never read."""
    HELLO_PROOF = "hello-proof"
    """The hello is answered with a wrong proof."""
    HELLO_UID = "hello-uid"
    """The hello is answered as another replica of the model would."""
    CLOSE = "close"
    """The request is read and the connection closed before the first byte."""
    HANG = "hang"
    """The request is read and never answered."""
    GARBAGE = "garbage"
    """The answer is no HTTP."""
    STATUS = "status"
    """The answer is an error with the status `code`, in vLLM's shape."""
    BUSY = "busy"
    """The replica's own refusal: it runs as many as it may."""
    MISDIRECTED = "misdirected"
    """The replica's own refusal: wrong MAC."""
    ERROR_EVENT = "error-event"
    """An error event with `code` in a 200 stream, after `after` events; then what vLLM ends such a stream with."""
    CUT = "cut"
    """The connection ends after `after` events (`inside`: in the middle of the next), or half-way in a JSON body."""
    SILENT = "silent"
    """Nothing more comes after `after` events."""
    SLOW = "slow"
    """The engine takes `factor` times as long for this request."""
    ENGINE_DEATH = "engine-death"
    """The engine's core dies after `after` events of this request; its API lives on for a moment, as vLLM's does."""
    PROCESS_DEATH = "process-death"
    """The whole process is killed after `after` events of this request."""


CONNECTION_KINDS = frozenset({Kind.ACCEPT_CLOSE, Kind.ACCEPT_HANG})
HELLO_KINDS = frozenset({Kind.HELLO_PROOF, Kind.HELLO_UID})


class BadFault(ValueError):
    """A fault that does not exist or a value that it cannot take; the text is one sentence."""


@dataclass(slots=True)
class Fault:
    """One fault and whom it meets."""

    kind: Kind
    after: int = 0
    inside: bool = False
    reset: bool = False
    """Connections end by RST instead of FIN."""
    code: int = 500
    factor: float = 10.0
    seconds: float = 0.0
    """How long `refuse` lasts; 0 is until cleared."""
    path: str = ""
    """Only requests whose path begins so; without it only those that the engine works on."""
    replica: str = ""
    """Only on the replica of this name; for the header, which travels with each attempt."""
    count: int = 0
    """For so many requests; 0 is until cleared."""
    fraction: float = 1.0
    """Of the requests, drawn with `seed`."""
    seed: int = 0
    met: int = 0
    """How many it has met so far."""
    _random: Random | None = field(default=None, repr=False)

    @property
    def is_spent(self) -> bool:
        return bool(self.count) and self.met >= self.count

    def strikes(self) -> bool:
        """Whether it meets the one who comes now."""
        if self.is_spent:
            return False
        if self.fraction < 1:
            if self._random is None:
                self._random = Random(self.seed)  # noqa: S311  (a repeatable draw is meant)
            if self._random.random() >= self.fraction:
                return False
        self.met += 1
        return True


_NAMES = {entry.name for entry in fields(Fault)} - {"met", "_random"}
_TRUE = ("true", "1", "yes")


def read(values: Mapping[str, object]) -> Fault:
    """A fault from JSON."""
    unknown = set(values) - _NAMES
    if unknown:
        raise BadFault(f"a fault has no field {min(unknown)}; there are {', '.join(sorted(_NAMES))}")
    try:
        kind = Kind(str(values.get("kind")))
    except ValueError:
        raise BadFault(f"there is no fault {values.get('kind')}; there are {', '.join(Kind)}") from None
    fault = Fault(kind)
    typed: dict[str, object] = {}
    for name, value in values.items():
        if name != "kind":
            typed[name] = _typed(name, value, getattr(fault, name))
    return replace(fault, **typed)  # type: ignore[arg-type]


def read_header(value: str) -> Fault:
    """A fault from the header x-simulate: `cut after=3 reset=true`."""
    kind, *settings = value.replace(";", " ").split() or [""]
    values: dict[str, object] = {"kind": kind}
    for setting in settings:
        name, _, given = setting.partition("=")
        values[name] = given or "true"
    return read(values)


def _typed(name: str, value: object, default: object) -> object:
    if isinstance(default, bool):
        return value if isinstance(value, bool) else str(value).lower() in _TRUE
    if isinstance(default, str):
        return str(value)
    try:
        return int(str(value)) if isinstance(default, int) else float(str(value))
    except ValueError:
        raise BadFault(f"the fault's {name} must be a number, not {value}") from None


class FaultBook:
    """The faults in force, asked in the order in which they were ordered."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.on_connections = False
        self.on_hellos = False
        self.on_requests = False

    def add(self, faults: Iterable[Fault]) -> None:
        self._faults.extend(faults)
        self._look()

    def clear(self) -> None:
        self._faults.clear()
        self._look()

    def of_connection(self) -> Fault | None:
        return self._pick(lambda fault: fault.kind in CONNECTION_KINDS)

    def of_hello(self) -> Fault | None:
        return self._pick(lambda fault: fault.kind in HELLO_KINDS)

    def of_request(self, path: str, is_work: bool) -> Fault | None:
        return self._pick(lambda fault: _is_for_requests(fault) and _concerns(fault, path, is_work))

    def listed(self) -> list[dict[str, object]]:
        return [{k: v for k, v in asdict(fault).items() if k != "_random"} for fault in self._faults]

    def _pick(self, suits: Callable[[Fault], bool]) -> Fault | None:
        for fault in self._faults:
            if suits(fault) and fault.strikes():
                if fault.is_spent:
                    self._look()
                return fault
        return None

    def _look(self) -> None:
        in_force = [fault for fault in self._faults if not fault.is_spent]
        self.on_connections = any(fault.kind in CONNECTION_KINDS for fault in in_force)
        self.on_hellos = any(fault.kind in HELLO_KINDS for fault in in_force)
        self.on_requests = any(_is_for_requests(fault) for fault in in_force)


def _is_for_requests(fault: Fault) -> bool:
    return fault.kind not in CONNECTION_KINDS and fault.kind not in HELLO_KINDS and fault.kind is not Kind.REFUSE


def _concerns(fault: Fault, path: str, is_work: bool) -> bool:
    return path.startswith(fault.path) if fault.path else is_work
