"""Ending a tree of real processes: orphans too, the stubborn by force, and the shared memory that they leave."""

import os
import signal
import subprocess
import sys
from multiprocessing import shared_memory
from pathlib import Path

from facts import until
from shoal_serving.replica import process_tree

TREE = """
import os, signal, subprocess, sys, time
from shoal_serving.replica import process_tree
process_tree.become_subreaper()
stubborn = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
polite = "import time; print(1, flush=True); time.sleep(600)"
a = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
b = subprocess.Popen([sys.executable, "-c", polite], stdout=subprocess.PIPE)
a.stdout.readline(), b.stdout.readline()
subprocess.run(["sh", "-c", f"{sys.executable} -c '{polite}' > /dev/null & "], check=True)
deadline = time.monotonic() + 100
while len(process_tree.descendants(os.getpid())) < 3 and time.monotonic() < deadline:
    time.sleep(0.02)
before = len(process_tree.descendants(os.getpid()))
begun = time.monotonic()
ended = process_tree.end_all_below(os.getpid(), politely=frozenset({POLITELY}), polite_seconds=POLITE_SECONDS,
                                   give_up_seconds=100, clock=time.monotonic, sleep=time.sleep)
print(before, ended, len(process_tree.descendants(os.getpid())), time.monotonic() - begun >= POLITE_SECONDS)
"""


def run_tree(politely: str, polite_seconds: float) -> list[str]:
    script = TREE.replace("POLITELY", politely).replace("POLITE_SECONDS", str(polite_seconds))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_everything_below_ends_orphans_too() -> None:
    assert run_tree("", 60.0) == ["3", "True", "0", "False"]


def test_the_polite_end_within_their_time_and_nobody_waits_longer() -> None:
    assert run_tree("b.pid", 60.0) == ["3", "True", "0", "False"]


def test_the_stubborn_are_killed_after_it() -> None:
    assert run_tree("a.pid", 1.0) == ["3", "True", "0", "True"]


def test_a_process_is_known_by_its_start_not_by_its_number_alone() -> None:
    me = process_tree.look_up(os.getpid())
    assert me is not None
    assert process_tree.is_alive(me.pid, me.started)
    assert not process_tree.is_alive(me.pid, me.started + 1)


def test_a_name_with_brackets_and_spaces_is_read_whole(tmp_path: Path) -> None:
    program = tmp_path / "a) b ("
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        until(lambda: (found := process_tree.look_up(child.pid)) is None or found.name == "a) b (")
        found = process_tree.look_up(child.pid)
        assert found is not None
        assert found.parent == os.getpid()
    finally:
        child.kill()
        child.wait()


def test_a_process_that_is_gone_is_none() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert process_tree.look_up(child.pid) is None


def test_shared_memory_of_a_killed_process_is_known() -> None:
    code = (
        "import time; from multiprocessing import shared_memory, resource_tracker\n"
        "s = shared_memory.SharedMemory(create=True, size=4096); s.buf[0] = 1\n"
        "resource_tracker.unregister(s._name, 'shared_memory')\n"
        "print(s.name, flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    try:
        found = process_tree.shared_memory_below(os.getpid())
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert Path("/dev/shm") / name in found
    segment = shared_memory.SharedMemory(name)
    segment.close()
    segment.unlink()
