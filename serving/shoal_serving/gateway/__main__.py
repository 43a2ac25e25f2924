"""`python -m shoal_serving.gateway`: reads the settings, opens the ports, serves until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime

import uvloop

from shoal_serving.gateway import settings as settings_module
from shoal_serving.gateway.serving import PortTaken, serve
from shoal_serving.gateway.settings import BadSettings


def main() -> int:
    """The program; its exit code."""
    logging.basicConfig(
        level=logging.INFO, format="time=%(asctime)s level=%(levelname)s %(message)s", stream=sys.stderr
    )
    logging.Formatter.converter = time.gmtime
    try:
        settings = settings_module.read(sys.argv[1:], os.environ)
    except BadSettings as bad:
        for fault in bad.faults:
            print(fault, file=sys.stderr)
        return 2
    # What lives as long as the program is not looked at again by every collection.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        stop, end = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (end if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await serve(settings, stop, end, time.monotonic, _wall_clock)

    try:
        uvloop.run(run())
    except PortTaken as taken:
        print(taken, file=sys.stderr)
        return 1
    return 0


def _wall_clock() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
