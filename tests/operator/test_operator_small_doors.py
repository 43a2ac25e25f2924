"""The queue, the store, the health page and the metrics, each by itself."""

import asyncio
from pathlib import Path

from facts import DEADLINE_SECONDS
from fake_cluster import FakeCluster
from reigns import a_wish, settled
from shoal_operator import health
from shoal_operator.fitness import Verdict
from shoal_operator.health import Answers
from shoal_operator.kinds import MODEL, POD
from shoal_operator.operator_metrics import HELP, OperatorMetrics
from shoal_operator.store import Store
from shoal_operator.work_queue import WorkQueue

ROOT = Path(__file__).resolve().parents[2]


def test_a_key_is_never_worked_on_by_two_and_never_lost() -> None:
    async def story() -> None:
        queue = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert await queue.take() == "a"
        queue.add("a")
        queue.add("b")
        assert await queue.take() == "b"
        assert len(queue) == 2
        queue.done("a")
        assert await queue.take() == "a"
        queue.done("a")
        queue.done("b")
        assert len(queue) == 0

    asyncio.run(story())


def test_the_queue_knows_what_has_been_worked_on_for_longest() -> None:
    async def story() -> None:
        queue = WorkQueue()
        assert queue.oldest is None
        queue.add("a")
        queue.add("b")
        before = asyncio.get_running_loop().time()
        await queue.take()
        first = queue.oldest
        await queue.take()
        assert first is not None
        assert before <= first == queue.oldest
        queue.done("a")
        assert queue.oldest is not None
        assert queue.oldest >= first
        queue.done("b")
        assert queue.oldest is None

    asyncio.run(story())


def test_of_two_times_the_earlier_counts() -> None:
    async def story() -> None:
        queue = WorkQueue()
        queue.add_later("a", 10 * DEADLINE_SECONDS)
        queue.add_later("a", 0)
        queue.add_later("a", 10 * DEADLINE_SECONDS)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await queue.take() == "a"
        queue.add_later("b", 0)
        queue.forget("b")
        queue.done("a")
        await asyncio.sleep(0)
        assert len(queue) == 0

    asyncio.run(story())


def test_an_older_reading_never_replaces_a_newer_one_nor_brings_back_what_is_gone() -> None:
    cluster = settled(a_wish(replicas=1))
    told: list[str] = []
    store = Store(told.append)
    pod = cluster.of(POD)[0]
    newer = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "9999"}}
    store.saw(POD, newer)
    store.saw(POD, pod)
    assert store.made(POD, "uid-qwen") == [newer]
    assert told == ["uid-qwen"]

    store.lost(POD, newer)
    store.saw(POD, pod)
    assert store.made(POD, "uid-qwen") == []


def test_what_came_after_a_list_is_not_missing_in_it() -> None:
    cluster = settled(a_wish(replicas=1))
    store = Store(lambda _: None)
    pod = cluster.of(POD)[0]
    store.saw(POD, pod)

    store.replace(POD, [], int(pod["metadata"]["resourceVersion"]) - 1)
    assert store.made(POD, "uid-qwen") == [pod]

    store.replace(POD, [], int(pod["metadata"]["resourceVersion"]))
    assert store.made(POD, "uid-qwen") == []


def test_a_status_that_nobody_can_read_is_no_status() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish() | {"status": {"conditions": "many"}})
    store = Store(lambda _: None)
    store.saw(MODEL, cluster.of(MODEL)[0])

    (wish,) = store.wishes()

    assert wish.md is None
    assert wish.status.conditions == []


def test_the_health_page() -> None:
    async def ask(port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def story() -> None:
        metrics = OperatorMetrics()
        answers = Answers(
            is_live=lambda: Verdict(True, "works"),
            is_ready=lambda: Verdict(False, "nobody answers"),
            metrics=metrics.text,
        )
        server = await health.serve("127.0.0.1", 0, answers)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert (await ask(port, b"GET /livez HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\nok: works\n")
            unready = await ask(port, b"GET /readyz HTTP/1.1\r\n\r\n")
            assert unready.startswith(b"HTTP/1.1 503 ")
            assert unready.endswith(b"\r\n\r\nno: nobody answers\n")
            assert b"shoal_operator_leading" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
            assert b"404 " in await ask(port, b"GET / HTTP/1.1\r\n\r\n")
            assert b"405 " in await ask(port, b"POST /livez HTTP/1.1\r\n\r\n")
            assert await ask(port, b"\x16\x03" + b"x" * 10_000) == b""

    asyncio.run(story())


def test_every_metric_of_the_operator_is_described() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    text = OperatorMetrics().text().decode()

    for name, told in HELP.items():
        full = name if f"# TYPE {name} " in text else f"{name}_total"
        assert f"# TYPE {full} " in text, name
        assert f"| `{full}` | {told} |" in page, name
