"""The door to files that change while the gateway runs, the routes and the keys: read again when they are others."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from shoal_api.routes import RouteDocument

log = logging.getLogger(__name__)

ROUTES_SECONDS = 0.05
KEYS_SECONDS = 1.0

_Stamp = tuple[int, int, int]
T = TypeVar("T")


class WatchedFile(Generic[T]):
    """Watches one file. What cannot be read or understood leaves the last good content in force."""

    def __init__(
        self, path: Path, read: Callable[[bytes], T], apply: Callable[[T], None], seconds: float, kept: str
    ) -> None:
        """`read` raises ValueError with a sentence; `kept` is the reason that the log gives for the old content."""
        self._path = path
        self._read = read
        self._apply = apply
        self._seconds = seconds
        self._kept = kept
        self._seen: _Stamp | None = None
        self._said = ""
        self.has_content = False

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._seconds)

    def look(self) -> None:
        """Read the file if it is another than before, and hand on what it says."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._seen:
                return
            content = self._path.read_bytes()
            self._seen = stamp
            found = self._read(content)
        except OSError as error:
            self._seen = None
            self._keep(f"it cannot be read ({error.strerror})")
        except ValueError as error:
            self._keep(str(error))
        else:
            self._said = ""
            self.has_content = True
            self._apply(found)

    def _keep(self, because: str) -> None:
        """Say once that the old content stays."""
        if because != self._said:
            self._said = because
            log.warning("file=%s reason=%s because=%s", self._path, self._kept, because)


def read_routes(content: bytes) -> RouteDocument:
    """The route document in a file."""
    try:
        return RouteDocument.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "document"
        raise ValueError(f"{where}: {first['msg']}") from error
