"""Schemathesis reads the gateway's OpenAPI document and makes up requests: no 5xx, and no error in a foreign shape."""

import os
import re
import subprocess
from pathlib import Path

from client_environments import python_of
from fleet import SimulatedReplica, a_route_to
from gateway_process import a_gateway

HERE = Path(__file__).parent
EXAMPLES = 20
LEFT_OUT = (
    # Which other fields a request must have, and what may stand in them, is the engine's to say.
    "positive_data_acceptance",
    "negative_data_rejection",
)


def test_schemathesis_finds_no_5xx_and_no_foreign_error(tmp_path: Path) -> None:
    writer = SimulatedReplica("writer", tmp_path, model_uid="uid-writer", served_name="writer")
    embedder = SimulatedReplica("embedder", tmp_path, model_uid="uid-embedder", served_name="embedder", embeds="true")
    try:
        with a_gateway(tmp_path, "--access-log=off") as gateway:
            for replica in (writer, embedder):
                replica.start()
            gateway.put(
                *(
                    a_route_to(replica, name=replica.name, model_uid=f"uid-{replica.name}")
                    for replica in (writer, embedder)
                )
            )
            ran = subprocess.run(
                [
                    python_of(HERE / "clients.txt").with_name("schemathesis"),
                    *("run", f"http://127.0.0.1:{gateway.port}/openapi.json"),
                    *("--checks", "all", "--exclude-checks", ",".join(LEFT_OUT)),
                    *("--max-examples", str(EXAMPLES), "--seed", "1", "--workers", "1", "--continue-on-failure"),
                    *("--phases", "examples,coverage,fuzzing", "--request-timeout", "20"),
                    *("--no-color", "--report-dir", tmp_path / "report"),
                ],
                env=os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=900,
            )
            answered = gateway.metric("shoal_requests_total", outcome="ok")
            assert "Traceback" not in gateway.log()
    finally:
        for replica in (writer, embedder):
            replica.stop()
    print(ran.stdout[-6000:])

    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert re.search(r"\d+ generated, \d+ passed", ran.stdout)
    assert answered > EXAMPLES, "hardly anything reached an engine"
