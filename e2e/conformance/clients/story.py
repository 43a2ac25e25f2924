"""The frame of a client's story: steps that each do one thing with the gateway, told as one JSON line per step."""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

PLACE: dict[str, str] = json.loads(os.environ["SHOAL_STORY"])
"""`url`, `key` for every model, `limited_key` for one of them, `wrong_key`, and the names of the models."""
HELLO = [{"role": "user", "content": "Hello"}]
LARGE = "x" * 2_000_000
"""More than the gateway of this story takes in one body."""

_steps: dict[str, Callable[[], None]] = {}


def step(run: Callable[[], None]) -> Callable[[], None]:
    """Part of the story, under its own name."""
    _steps[run.__name__] = run
    return run


def raises(kind: type[Exception], call: Callable[[], Any], **told: object) -> Any:
    """The error that `call` ends in must be of this class, and say what is `told`."""
    try:
        found = call()
    except kind as error:
        said = {name: getattr(error, name) for name in told}
        if said != told:
            raise AssertionError(f"{said} instead of {told}") from error
        return error
    raise AssertionError(f"no {kind.__name__}, but {found!r}")


def tell() -> None:
    """Run every step."""
    for name, run in _steps.items():
        try:
            run()
            fault = ""
        except Exception:  # noqa: BLE001  (whatever goes wrong is told, and the story goes on)
            fault = traceback.format_exc(limit=-4)
        print("STEP " + json.dumps({"step": name, "fault": fault}), flush=True)
