"""What wrk and h2load report, as they wrote it."""

from pathlib import Path

import pytest

import load_tools
from load_tools import LoadReport, UnreadableReport

WRK = """\
Running 2s test @ http://127.0.0.1:31490/v1/chat/completions
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   455.14us  700.31us  11.73ms   98.31%
    Req/Sec    78.03k     3.19k   81.22k    72.73%
  Latency Distribution
     50%  423.00us
     75%  438.00us
     90%  534.00us
     99%    2.63ms
  85208 requests in 1.10s, 257.19MB read
Requests/sec:  77467.95
Transfer/sec:    233.83MB
"""
H2LOAD = """\
starting benchmark...
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 2.00s, 74426.50 req/s, 224.65MB/s
requests: 148853 total, 148885 started, 148853 done, 148853 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 148853 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 449.29MB (471119745) total, 9.65MB (10122004) headers (space savings 0.00%), 419.91MB (440307174) data
                     min         max         mean         sd        +/- sd
time for request:       33us      4.74ms       429us       283us    94.75%
"""


def test_a_wrk_report_is_read() -> None:
    report = load_tools.read_wrk(WRK)

    assert report == LoadReport(answered=85208, failed=0, seconds=1.1, p50_us=423, p99_us=2630)
    assert report.per_second == pytest.approx(77_461.8, abs=0.1)


@pytest.mark.parametrize(
    ("shown", "microseconds"), [("19.00us", 19), ("2.63ms", 2630), ("1.50s", 1_500_000), ("1.00m", 60_000_000)]
)
def test_every_unit_of_wrk_is_understood(shown: str, microseconds: float) -> None:
    assert load_tools.read_wrk(WRK.replace("2.63ms", shown)).p99_us == pytest.approx(microseconds)


def test_what_failed_under_wrk_is_not_counted_as_answered() -> None:
    troubles = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 208\nRequests/sec"
    report = load_tools.read_wrk(WRK.replace("Requests/sec", troubles))

    assert (report.answered, report.failed) == (85_000, 218)


def test_an_h2load_report_is_read() -> None:
    report = load_tools.read_h2load(H2LOAD)

    assert report == LoadReport(answered=148853, failed=0, seconds=2.0, body_bytes=440307174)


def test_what_failed_under_h2load_is_counted_once() -> None:
    report = load_tools.read_h2load(
        H2LOAD.replace("148853 succeeded, 0 failed, 0 err", "148850 succeeded, 3 failed, 2 err")
    )

    assert (report.answered, report.failed) == (148850, 3)


@pytest.mark.parametrize("read", [load_tools.read_wrk, load_tools.read_h2load])
def test_what_is_no_report_is_quoted(read: object) -> None:
    assert callable(read)
    with pytest.raises(UnreadableReport, match="unable to connect"):
        read("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_wrk_script_posts_the_file() -> None:
    script = load_tools.wrk_script(Path("/tmp/a b.json"), {"content-type": "application/json"})

    assert 'wrk.method = "POST"' in script
    assert "io.open(\"/tmp/a b.json\", 'rb')" in script
    assert 'wrk.headers["content-type"] = "application/json"' in script


def test_command_lines_bound_the_load_in_connections_and_time() -> None:
    wrk = load_tools.wrk("http://127.0.0.1:1/x", Path("s.lua"), 32, 5)
    h2load = load_tools.h2load("http://127.0.0.1:1/x", Path("b.json"), {"a": "b"}, 16, 5)

    assert wrk[:7] == ["wrk", "-t", "1", "-c", "32", "-d", "5s"]
    assert h2load[-2:] == ["-D", "5"]
    assert h2load[4:6] == ["-c", "16"]
    assert h2load[8:10] == ["-H", "a: b"]
