"""The simulator over sockets: what it answers, in which order, and what it notes of clients that leave."""

import asyncio
import base64
import json
import math
import struct

import pytest

from shoal_api import proof
from shoal_serving.simulator.knobs import Knobs
from simulated import CHAT, a_chat, run_async, simulated

TEXT = "/v1/completions"


def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    async def main() -> None:
        async with simulated() as engine:
            whole = await engine.ask("POST", CHAT, a_chat())
            stream = await engine.ask("POST", CHAT, a_chat(stream=True))
        assert stream.text == whole.text != ""
        assert stream.events[-1] == "[DONE]"
        assert whole.json()["usage"]["completion_tokens"] == 8

    run_async(main())


def test_the_requests_id_becomes_the_answers() -> None:
    async def main() -> None:
        async with simulated() as engine:
            for at in range(3):  # the later ones come from a plan that is known
                answer = await engine.ask("POST", CHAT, a_chat(), {"x-request-id": f"request-{at}"})
                assert answer.json()["id"] == f"chatcmpl-request-{at}"
            odd = await engine.ask("POST", CHAT, a_chat(), {"x-request-id": 'a"b\\c'})
            assert odd.json()["id"] == 'chatcmpl-a"b\\c'
            stream = await engine.ask("POST", CHAT, a_chat(stream=True), {"x-request-id": "s"})
        assert {json.loads(event)["id"] for event in stream.events[:-1]} == {"chatcmpl-s"}

    run_async(main())


@pytest.mark.parametrize("kind", ["ascii", "bytes"])
def test_a_chat_can_be_continued_by_token_ids_over_the_wire(kind: str) -> None:
    async def main() -> None:
        knobs = Knobs(tokenizer="bytes" if kind == "bytes" else "ascii")
        async with simulated(knobs) as engine:
            request = a_chat(stream=True, return_token_ids=True, max_tokens=30, temperature=0, ignore_eos=True)
            unbroken = await engine.ask("POST", CHAT, request)
            first, *chunks = [json.loads(event) for event in unbroken.events[:-1]]
            for cut in range(1, len(chunks)):
                ids = [chunk["choices"][0]["token_ids"][0] for chunk in chunks[:cut]]
                prompt = first["prompt_token_ids"] + ids
                rest_request = {"model": "m", "prompt": prompt, "stream": True, "return_token_ids": True}
                rest_request |= {"max_tokens": 30 - cut, "ignore_eos": True}
                rest = await engine.ask("POST", TEXT, rest_request, {proof.CONTINUE_HEADER: str(cut)})
                kept = json.loads(rest.events[0])["choices"][0]["prompt_token_ids"]
                dropped = len(prompt) - len(kept)
                before = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:cut])
                assert dropped == 0 or kind == "bytes"
                assert unbroken.text == before + rest.text
                assert rest.headers[proof.DROPPED_HEADER] == str(dropped)

    run_async(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with simulated(Knobs(first_token_seconds=0.01)) as engine, engine.client() as client:
            for at in range(40):
                client.send("POST", CHAT, a_chat(), {"x-request-id": str(at)})
            heard = [(await client.hear()).json()["id"] for _ in range(40)]
        assert heard == [f"chatcmpl-{at}" for at in range(40)]

    run_async(main())


def test_a_client_that_leaves_is_noted_as_an_abort_and_frees_its_place() -> None:
    async def main() -> None:
        async with simulated(Knobs(gap_seconds=0.01, max_running=1)) as engine:
            for stream in (True, False):
                async with engine.client() as client:
                    client.send("POST", CHAT, a_chat(stream=stream, max_tokens=5000, ignore_eos=True))
                    await engine.until(running=1, inFlight=1)
                await engine.until(running=0, inFlight=0)
            log = (await engine.ask("GET", "/simulator/log")).json()
        assert [entry["outcome"] for entry in log] == ["aborted", "aborted"]
        assert all(entry["endedAt"] >= entry["at"] for entry in log)
        assert log[0]["tokensSent"] < 5000

    run_async(main())


def test_the_log_shows_the_order_of_arrival() -> None:
    async def main() -> None:
        async with simulated() as engine:
            for name in "abc":
                await engine.ask("POST", CHAT, a_chat(), {"x-request-id": name})
            log = (await engine.ask("GET", "/simulator/log?since=1")).json()
        assert [(entry["order"], entry["requestId"], entry["outcome"]) for entry in log] == [
            (2, "b", "finished"),
            (3, "c", "finished"),
        ]

    run_async(main())


def test_the_log_is_bounded() -> None:
    async def main() -> None:
        async with simulated(Knobs(log_size=5)) as engine:
            for _ in range(9):
                await engine.ask("POST", CHAT, a_chat())
            log = (await engine.ask("GET", "/simulator/log")).json()
        assert [entry["order"] for entry in log] == [5, 6, 7, 8, 9]

    run_async(main())


def test_a_slow_reader_is_waited_for_and_gets_everything() -> None:
    async def main() -> None:
        async with simulated(Knobs(max_model_len=100_000)) as engine, engine.client() as client:
            client.pause()
            client.send("POST", CHAT, a_chat(stream=True, max_tokens=60_000, ignore_eos=True))
            await engine.until(inFlight=1)
            (entry,) = (await engine.ask("GET", "/simulator/log")).json()
            assert entry["outcome"] == "running"
            assert entry["tokensSent"] < 60_000
            client.resume()
            answer = await client.hear()
        assert len(answer.text) == 60_000
        assert answer.events[-1] == "[DONE]"

    run_async(main())


def test_over_its_queue_the_engine_refuses_as_vllm_does() -> None:
    async def main() -> None:
        async with simulated(Knobs(gap_seconds=0.01, max_running=1, max_queued=1)) as engine, engine.client() as busy:
            busy.send("POST", CHAT, a_chat(max_tokens=5000, ignore_eos=True))
            await engine.until(running=1)
            plain = await engine.ask("POST", CHAT, a_chat())
            await engine.ask("POST", "/simulator/knobs", {"refuse-in-stream": True})
            stream = await engine.ask("POST", CHAT, a_chat(stream=True))
        assert (plain.status, plain.json()["error"]["code"]) == (503, 503)
        assert stream.status == 200
        assert [json.loads(stream.events[0])["error"]["code"], stream.events[1]] == [503, "[DONE]"]

    run_async(main())


def test_embeddings_are_unit_vectors_that_follow_the_text() -> None:
    async def main() -> None:
        async with simulated(Knobs(embeds=True, embedding_size=32)) as engine:
            body = {"model": "m", "input": ["a cat", "a dog", "a cat"]}
            answer = (await engine.ask("POST", "/v1/embeddings", body)).json()
            coded = (await engine.ask("POST", "/v1/embeddings", {**body, "encoding_format": "base64"})).json()
            assert (await engine.ask("POST", CHAT, a_chat())).status == 404
        vectors = [item["embedding"] for item in answer["data"]]
        assert vectors[0] == vectors[2] != vectors[1]
        assert all(math.isclose(sum(number * number for number in vector), 1, abs_tol=1e-6) for vector in vectors)
        unpacked = struct.unpack("<32f", base64.b64decode(coded["data"][0]["embedding"]))
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(unpacked, vectors[0], strict=True))
        assert [item["index"] for item in answer["data"]] == [0, 1, 2]

    run_async(main())


@pytest.mark.parametrize("order", [("model", "file"), ("file", "model")])
def test_a_transcription_finds_its_model_anywhere_in_the_form(order: tuple[str, str]) -> None:
    parts = {
        "model": b'content-disposition: form-data; name="model"\r\n\r\nm\r\n',
        "file": b'content-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + b"\0\r\n" * 50_000 + b"\r\n",
    }
    form = b"".join(b"--edge\r\n" + parts[name] for name in order) + b"--edge--\r\n"

    async def main() -> None:
        async with simulated() as engine:
            kind = {"content-type": "multipart/form-data; boundary=edge"}
            answer = await engine.ask("POST", "/v1/audio/transcriptions", form, kind)
            wrong = await engine.ask(
                "POST", "/v1/audio/transcriptions", form.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nx\r\n"), kind
            )
        assert (answer.status, sorted(answer.json())) == (200, ["text", "usage"])
        assert wrong.status == 404

    run_async(main())


def test_tokens_go_to_ids_and_back() -> None:
    async def main() -> None:
        async with simulated(Knobs(tokenizer="bytes")) as engine:
            there = (await engine.ask("POST", "/tokenize", {"model": "m", "prompt": "größe"})).json()
            back = (await engine.ask("POST", "/detokenize", {"model": "m", "tokens": there["tokens"]})).json()
        assert (there["count"], back["prompt"]) == (7, "größe")

    run_async(main())


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_typed_streams_end_with_their_own_event_and_without_done(path: str) -> None:
    body = {"/v1/responses": {"model": "m", "input": "Hi"}, "/v1/messages": {**a_chat(), "max_tokens": 4}}[path]

    async def main() -> None:
        async with simulated() as engine:
            stream = await engine.ask("POST", path, {**body, "stream": True})
        last = json.loads(stream.events[-1])
        assert last["type"] == {"/v1/responses": "response.completed", "/v1/messages": "message_stop"}[path]

    run_async(main())


def test_garbage_gets_400_and_a_closed_connection() -> None:
    async def main() -> None:
        async with simulated() as engine, engine.client() as client:
            client.write(b"this is no HTTP\r\n\r\n")
            heard = await client.hear()
            assert (heard.status, await client.heard_end()) == (400, "fin")

    run_async(main())


def test_a_client_that_wishes_so_is_told_to_go_on() -> None:
    async def main() -> None:
        async with simulated() as engine, engine.client() as client:
            body = json.dumps(a_chat()).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n"
            client.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
            assert await client.up_to(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.write(body)
            assert (await client.hear()).status == 200

    run_async(main())


def test_knobs_can_be_turned_while_it_runs() -> None:
    async def main() -> None:
        async with simulated() as engine:
            assert (await engine.ask("POST", "/simulator/knobs", {"answer-tokens": 3})).status == 200
            assert (await engine.ask("POST", CHAT, a_chat())).json()["choices"][0]["finish_reason"] == "stop"
            wrong = await engine.ask("POST", "/simulator/knobs", {"speed": 3})
            assert (wrong.status, "there is no knob speed" in wrong.json()["error"]) == (400, True)

    run_async(main())


def test_streams_keep_their_pace() -> None:
    async def main() -> None:
        async with simulated(Knobs(first_token_seconds=0.05, gap_seconds=0.02)) as engine, engine.client() as client:
            loop = asyncio.get_running_loop()
            began = loop.time()
            client.send("POST", CHAT, a_chat(stream=True, max_tokens=5))
            await client.hear()
            assert loop.time() - began >= 0.05 + 4 * 0.02 - 0.005

    run_async(main())
