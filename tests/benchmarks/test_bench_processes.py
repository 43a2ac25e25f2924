"""What a program and its children cost, and that nothing of it stays."""

import os
import sys
import time
from pathlib import Path

import pytest

from measured_process import DidNotStart, MeasuredProcess, Stat, answers, family, own_cpu_seconds, read_stat

_LINE = (
    "4242 (a (b) c) S 17 4240 4240 0 -1 4194560 900 0 0 0 "
    "150 50 7 3 20 0 5 0 123456 104857600 2560 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0"
)


def test_a_stat_line_is_read_past_a_name_with_brackets() -> None:
    assert read_stat(_LINE) == Stat(pid=4242, state="S", parent=17, group=4240, ended_ticks=10, pages=2560)


def test_a_family_is_the_process_its_group_and_all_below_it() -> None:
    def stat(pid: int, parent: int, group: int) -> Stat:
        return Stat(pid, "S", parent, group, 0, 0)

    stats = [stat(1, 0, 1), stat(10, 1, 10), stat(11, 10, 10), stat(12, 11, 12), stat(13, 1, 10), stat(20, 1, 20)]

    assert sorted(each.pid for each in family(stats, 10)) == [10, 11, 12, 13]


def test_cpu_time_is_what_the_process_itself_would_say() -> None:
    before = time.process_time()
    seen = own_cpu_seconds(os.getpid())

    assert before <= seen <= time.process_time()


_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_stopped_program_takes_its_children_along(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = MeasuredProcess([sys.executable, "-c", _PARENT], log)
    process.wait_until(lambda: log.read_text().endswith("\n"), 120)
    child = int(log.read_text())
    assert Path(f"/proc/{child}").exists()
    assert process.memory_bytes() > 1024 * 1024

    process.stop()

    assert not Path(f"/proc/{process.pid}").exists()
    # A child whose parent is gone belongs to init, which buries it when it likes; it does not run any more.
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()


def test_a_program_that_ends_instead_of_serving_says_why(tmp_path: Path) -> None:
    process = MeasuredProcess([sys.executable, "-c", "raise SystemExit('no such flag --x')"], tmp_path / "log")
    with pytest.raises(DidNotStart, match="it ended with status 1; its log ends: no such flag --x"):
        process.wait_until(lambda: False, 120)
    process.stop()


def test_a_program_that_never_serves_is_given_up(tmp_path: Path) -> None:
    process = MeasuredProcess([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    with pytest.raises(DidNotStart, match="did not serve within 0 s"):
        process.wait_until(lambda: False, 0.01)
    process.stop()


def test_nobody_answers_on_a_closed_port() -> None:
    assert not answers("http://127.0.0.1:1/")
