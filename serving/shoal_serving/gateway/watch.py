"""The door to the route document on one machine: a file, read again whenever it was replaced or changed."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from shoal_api.routes import RouteDocument

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05

_Stamp = tuple[int, int, int]


class RouteFile:
    """Watches one file. What cannot be read or understood leaves the last good document in force."""

    def __init__(self, path: Path, apply: Callable[[RouteDocument], None]) -> None:
        self._path = path
        self._apply = apply
        self._seen: _Stamp | None = None
        self._said = ""
        self.has_document = False

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Read the file if it is another than before, and hand on what it says."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._seen:
                return
            content = self._path.read_bytes()
            self._seen = stamp
            document = RouteDocument.model_validate_json(content)
        except OSError as error:
            self._seen = None
            self._keep(f"it cannot be read ({error.strerror})")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "document"
            self._keep(f"{where}: {first['msg']}")
        else:
            self._said = ""
            self.has_document = True
            self._apply(document)

    def _keep(self, because: str) -> None:
        """Say once that the old document stays."""
        if because != self._said:
            self._said = because
            log.warning("file=%s reason=KeptLastRoutes because=%s", self._path, because)
