"""The simulator's control paths: faults, knobs, the log, and what it is doing."""

import json
from collections.abc import Callable
from dataclasses import asdict
from urllib.parse import parse_qs

from shoal_serving.simulator import faults, knobs
from shoal_serving.simulator.faults import BadFault, Fault, Kind
from shoal_serving.simulator.gatekeeping import Reply
from shoal_serving.simulator.knobs import BadKnob
from shoal_serving.simulator.service import Service

_PREFIX = "/simulator/"


class Control:
    """Answers `/simulator/faults`, `/simulator/knobs`, `/simulator/log` and `/simulator/state`."""

    def __init__(self, service: Service, refuse: Callable[[float], None], listen: Callable[[], None]) -> None:
        self._service = service
        self._refuse = refuse
        self._listen = listen

    def __call__(self, method: bytes, path: bytes, query: bytes, body: bytes) -> Reply:
        name = path.decode("latin-1").removeprefix(_PREFIX)
        try:
            match method, name:
                case b"GET", "faults":
                    return _json(self._service.faults.listed())
                case b"POST", "faults":
                    self.order([faults.read(item) for item in _items(body)])
                    return _json(self._service.faults.listed())
                case b"DELETE", "faults":
                    self._service.faults.clear()
                    self._listen()
                    return _json([])
                case b"GET", "knobs":
                    return _json(asdict(self._service.model.knobs))
                case b"POST", "knobs":
                    (settings,) = _items(body)
                    self._service.turn(knobs.turned(self._service.model.knobs, settings))
                    return _json(asdict(self._service.model.knobs))
                case b"GET", "log":
                    since = parse_qs(query.decode("latin-1")).get("since", ["0"])[0]
                    return _json(self._service.journal.since(int(since)))
                case b"DELETE", "log":
                    self._service.journal.clear()
                    return _json([])
                case b"GET", "state":
                    return _json(self._state())
        except (BadFault, BadKnob, ValueError) as error:
            return _json({"error": str(error)}, 400)
        return _json({"error": "there are faults, knobs, log and state"}, 404)

    def order(self, ordered: list[Fault]) -> None:
        """Faults in force from now on."""
        self._service.faults.add(fault for fault in ordered if fault.kind is not Kind.REFUSE)
        for fault in ordered:
            if fault.kind is Kind.REFUSE:
                self._refuse(fault.seconds)

    def _state(self) -> dict[str, object]:
        service = self._service
        return {
            "replica": service.replica,
            "inFlight": service.gatekeeper.in_flight,
            "running": service.engine.running,
            "waiting": service.engine.waiting,
            "connections": len(service.connections),
            "arrived": service.journal.arrived,
            "ready": service.gatekeeper.ready,
            "draining": service.gatekeeper.is_draining,
            "engineIsDead": service.engine.dead,
        }


def _items(body: bytes) -> list[dict[str, object]]:
    value = json.loads(body or b"null")
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("the body must be a JSON object or a list of them")
    return items


def read_faults(text: str) -> list[Fault]:
    """The faults of the knob `faults`."""
    try:
        return [faults.read(item) for item in _items(text.encode())] if text else []
    except ValueError as error:
        raise BadKnob(f"the knob faults cannot be read: {error}") from error


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode())
