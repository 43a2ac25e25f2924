"""The simulated engine's metrics under vLLM's names."""

from collections.abc import Iterator, Mapping

from shoal_serving.simulator.engine import Engine
from shoal_serving.simulator.knobs import Knobs

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"


def text(engine: Engine, knobs: Knobs, served: str) -> bytes:
    name = served.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "\n".join([*_lines(engine, knobs, f'engine="0",model_name="{name}"', f'model_name="{name}"'), ""]).encode()


def _lines(engine: Engine, knobs: Knobs, labels: str, model_label: str) -> Iterator[str]:
    counters = engine.counters
    hits, computed = counters.prefix_hits, counters.prompt_tokens - counters.prefix_hits
    yield from _family("num_requests_running", "gauge", {labels: engine.running})
    yield from _family("num_requests_waiting", "gauge", {labels: engine.waiting})
    reasons = {f'{labels},reason="capacity"': engine.waiting, f'{labels},reason="deferred"': 0}
    yield from _family("num_requests_waiting_by_reason", "gauge", reasons)
    states = {
        f'{labels},sleep_state="{state}"': state == "awake" for state in ("awake", "weights_offloaded", "discard_all")
    }
    yield from _family("engine_sleep_state", "gauge", states)
    yield from _family("kv_cache_usage_perc", "gauge", {labels: engine.cache.usage})
    yield from _family("prefix_cache_queries", "counter", {labels: counters.prefix_queries})
    yield from _family("prefix_cache_hits", "counter", {labels: hits})
    yield from _family("num_preemptions", "counter", {labels: 0})
    yield from _family("prompt_tokens", "counter", {labels: counters.prompt_tokens})
    sources = {"local_compute": computed, "local_cache_hit": hits, "external_kv_transfer": 0}
    by_source = {f'{labels},source="{source}"': value for source, value in sources.items()}
    yield from _family("prompt_tokens_by_source", "counter", by_source)
    yield from _family("prompt_tokens_cached", "counter", {labels: hits})
    yield from _family("generation_tokens", "counter", {labels: counters.generation_tokens})
    # vLLM counts no clients that left: its abort stays 0.
    finished = {**counters.finished, "abort": 0, "repetition": 0}
    by_reason = {f'engine="0",finished_reason="{reason}",{model_label}': value for reason, value in finished.items()}
    yield from _family("request_success", "counter", by_reason)
    rejections = {
        f'{model_label},reason="max_num_queued_reqs"': counters.rejections,
        f'{model_label},reason="max_num_queued_tokens"': 0,
    }
    yield from _family("admission_rejections", "counter", rejections)
    cache = f'block_size="{knobs.block_tokens}",engine="0",num_gpu_blocks="{knobs.kv_blocks}"'
    yield from _family("cache_config_info", "gauge", {cache: 1})


def _family(name: str, kind: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# TYPE vllm:{name}{'_total' if kind == 'counter' else ''} {kind}"
    for labels, value in values.items():
        yield f"vllm:{name}{'_total' if kind == 'counter' else ''}{{{labels}}} {float(value)}"
