"""Readings of the watches reach the operator's loop in their order, however many, and crowd nothing else out."""

import asyncio
import os
import signal
import threading

from shoal_operator.handlers import HandingOver
from shoal_operator.kinds import MODEL, Kind, Manifest

MANY = 5_000


def test_a_signal_that_comes_while_thousands_of_readings_wait_is_heard() -> None:
    async def story() -> list[Manifest]:
        loop = asyncio.get_running_loop()
        heard, all_seen, seen = asyncio.Event(), asyncio.Event(), list[Manifest]()

        def see(kind: Kind, manifest: Manifest, what: str | None) -> None:
            assert (kind, what) == (MODEL, "ADDED")
            seen.append(manifest)
            if len(seen) == MANY:
                all_seen.set()

        hand_over = HandingOver(see)
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        watch = threading.Thread(target=lambda: [hand_over(MODEL, {"n": n}, "ADDED") for n in range(MANY)])
        watch.start()
        watch.join()  # the loop runs nothing meanwhile
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(60):
            await heard.wait()
            await all_seen.wait()
        return seen

    assert asyncio.run(story()) == [{"n": n} for n in range(MANY)]


def test_what_is_read_while_earlier_readings_are_taken_comes_after_them() -> None:
    async def story() -> list[str | None]:
        seen, done = list[str | None](), asyncio.Event()

        def see(_kind: Kind, _manifest: Manifest, what: str | None) -> None:
            seen.append(what)
            if what == "first":
                hand_over(MODEL, {}, "third")
            if what == "third":
                done.set()

        hand_over = HandingOver(see)
        hand_over(MODEL, {}, "first")
        hand_over(MODEL, {}, "second")
        async with asyncio.timeout(60):
            await done.wait()
        return seen

    assert asyncio.run(story()) == ["first", "second", "third"]
