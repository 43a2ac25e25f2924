"""A replica program that keeps the contract (configuration, report, /health, SIGTERM, last words) and fails on command.

Commands are engine arguments: `--exit CODE SENTENCE` at once, `--hang` never ready, `--ignore-term`, `--orphan` leaves
a child in a session of its own, `--slow SECONDS` until ready, `--drain SECONDS` for the drain.
"""

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from shoal_api.replica_config import REPORT_FILE, ReplicaConfig, Report, Stage
from shoal_api.termination import EXIT_PERMANENT, LastWords


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _report(config: ReplicaConfig, stage: Stage) -> None:
    with (config.directory / REPORT_FILE).open("a") as file:
        file.write(Report(stage=stage, at=time.time()).model_dump_json() + "\n")


def _wait(over: Callable[[], object]) -> None:
    while not over():
        time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    config = ReplicaConfig.model_validate_json(parser.parse_args().config.read_text())
    faults = argparse.ArgumentParser()
    faults.add_argument("--exit", nargs=2)
    faults.add_argument("--hang", action="store_true")
    faults.add_argument("--ignore-term", action="store_true")
    faults.add_argument("--orphan", action="store_true")
    faults.add_argument("--slow", type=float, default=0)
    faults.add_argument("--drain", type=float, default=0)
    told, _ = faults.parse_known_args(config.args)

    ended: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if told.ignore_term else lambda number, _: ended.append(number))
    _report(config, Stage.RAY)
    if told.exit:
        code, sentence = int(told.exit[0]), told.exit[1]
        config.termination_message.write_text(LastWords(sentence, code == EXIT_PERMANENT).to_text())
        return code
    if told.orphan:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "orphan"], start_new_session=True)
    _report(config, Stage.ENGINE)
    began = time.monotonic()
    _wait(lambda: ended or time.monotonic() - began >= told.slow)
    if not told.hang and not ended:
        server = ThreadingHTTPServer((config.host, config.port), _Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _report(config, Stage.READY)
    _wait(lambda: ended)
    _report(config, Stage.DRAINING)
    time.sleep(told.drain)
    return 0


if __name__ == "__main__":
    sys.exit(main())
