"""The page for Prometheus reads as its own library writes one, leaves out what never happened, and holds nobody up."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from shoal_serving.gateway import app
from shoal_serving.gateway.exposition import PIECE_CHARACTERS, Exposition
from shoal_serving.gateway.load_telling import LoadStream
from shoal_serving.gateway.metrics import ModelGauges, ModelMetrics, Reading

MODELS = 1000
A_PIECE_MAY_TAKE_SECONDS = 0.02


def busy() -> ModelMetrics:
    counted = ModelMetrics()
    counted.count_request("/v1/completions", "ok")
    for histogram in (counted.queue_wait, counted.first_token, counted.gap, counted.added, counted.duration):
        for seconds in (0.0, 0.02, 700.0):
            histogram.observe(seconds)
    return counted


def reading(counted: dict[str, ModelMetrics]) -> Reading:
    return Reading(counted, {model: ModelGauges(1, 2, {"open": 3}, 4) for model in counted}, 5, 6, {})


def pieces(counted: dict[str, ModelMetrics]) -> Iterator[bytes]:
    return Exposition(lambda: reading(counted)).pieces()


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(page.decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_the_library_reads_what_was_counted() -> None:
    found = samples(b"".join(pieces({"d/m": busy()})))
    model = ("model", "d/m")
    assert found["shoal_requests_total", (model, ("outcome", "ok"), ("route", "/v1/completions"))] == 1
    assert found["shoal_endpoints", (model, ("state", "open"))] == 3
    assert found["shoal_added_latency_seconds_bucket", (("le", "0.0001"), model)] == 1
    assert found["shoal_added_latency_seconds_bucket", (("le", "0.025"), model)] == 2
    assert found["shoal_added_latency_seconds_bucket", (("le", "+Inf"), model)] == 3
    assert found["shoal_added_latency_seconds_count", (model,)] == 3
    assert found["shoal_added_latency_seconds_sum", (model,)] == 700.02


def test_a_label_may_hold_anything() -> None:
    counted = ModelMetrics()
    counted.count_attempt('a "quoted" \\ and\nanother line')
    found = samples(b"".join(pieces({"d/m": counted})))
    assert found["shoal_attempts_total", (("model", "d/m"), ("outcome", 'a "quoted" \\ and\nanother line'))] == 1


def test_a_model_that_nobody_asks_for_has_no_histograms() -> None:
    page = b"".join(pieces({"d/asked": busy(), "d/idle": ModelMetrics()}))
    assert b'shoal_requests_waiting{model="d/idle"} 1.0\n' in page
    assert b'_bucket{le="0.005",model="d/asked"}' in page
    assert b'_bucket{le="0.005",model="d/idle"}' not in page


def test_no_piece_of_a_long_page_takes_long() -> None:
    counted = {f"d/model-{index}": busy() for index in range(MODELS)}
    lengths, slowest, began = [], [], time.thread_time()
    for piece in pieces(counted):
        lengths.append(len(piece))
        slowest.append(time.thread_time() - began)
        began = time.thread_time()
    one_model = 4 * 1024
    assert sum(lengths) > 5_000_000
    assert max(lengths) < PIECE_CHARACTERS + one_model
    assert sorted(slowest)[len(slowest) // 2] < A_PIECE_MAY_TAKE_SECONDS


def test_what_happens_for_the_first_time_while_the_page_is_read_breaks_no_page() -> None:
    counted = {f"d/model-{index}": ModelMetrics() for index in range(300)}
    for of in counted.values():
        for path in ("/v1/completions", "/v1/embeddings", "/score"):
            of.count_request(path, "ok")
        of.count_attempt("complete")
        of.count_attempt("busy")
    page = b""
    for at, piece in enumerate(pieces(counted)):
        page += piece
        for of in counted.values():
            of.count_request("/tokenize", f"for the first time {at}")
            of.count_attempt(f"for the first time {at}")
    found = samples(page)
    for model in counted:
        assert found["shoal_requests_total", (("model", model), ("outcome", "ok"), ("route", "/score"))] == 1
        assert found["shoal_attempts_total", (("model", model), ("outcome", "busy"))] == 1


def test_others_have_their_turn_while_a_long_page_is_read() -> None:
    counted = {f"d/model-{index}": busy() for index in range(50)}
    expected = list(pieces(counted))

    def never(*_: object) -> Any:
        raise AssertionError("nobody asks for the load")

    async def scenario() -> tuple[bytes, int]:
        internal = app.internal(lambda: True, lambda: pieces(counted), never, cast("LoadStream", never))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        working = asyncio.create_task(other())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(internal), base_url="http://gateway") as client:
            answer = await client.get("/metrics")
        working.cancel()
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return answer.content, turns

    page, turns = asyncio.run(scenario())
    assert page == b"".join(expected)
    assert turns >= len(expected) > 10
