"""vLLM's arguments: ours come last, what is ours is refused, also where only the parsed result shows it."""

import argparse
from typing import Any

import pytest

from replica_builders import a_config
from shoal_serving.replica import engine_args, ranks
from shoal_serving.replica.engine_args import Flag, RefusedArgument
from shoal_serving.replica.ranks import CannotLayOut


def build(**changes: Any) -> list[str]:
    config = a_config(**changes)
    return engine_args.build(config, ranks.lay_out(config))


def test_the_owners_words_come_first_and_ours_after_them() -> None:
    assert build(args=["--max-model-len", "512"]) == [
        *("--max-model-len", "512"),
        *("--model", "/models/llama", "--served-model-name", "llama"),
        *("--host", "127.0.0.1", "--port", "31050"),
        *("--tensor-parallel-size", "1", "--pipeline-parallel-size", "1"),
        *("--distributed-executor-backend", "mp"),
    ]


def test_a_hubs_id_is_split_into_model_and_revision() -> None:
    words = build(source="org/model@v2")
    assert words[words.index("--model") + 1] == "org/model"
    assert words[words.index("--revision") + 1] == "v2"


def test_an_at_sign_in_a_path_is_part_of_the_path() -> None:
    words = build(source="/models/llama@v2")
    assert words[words.index("--model") + 1] == "/models/llama@v2"
    assert "--revision" not in words


@pytest.mark.parametrize(
    "word",
    [
        "--host",
        "--port=80",
        "--api-key",
        "--api_key",
        "--served-model-name",
        "--model",
        "--tensor-parallel-size",
        "-tp",
        "-tp=2",
        "-pp",
        "--distributed_executor_backend",
        "--uvicorn-log-level",
        "--ssl-keyfile",
        "--config",
        "--middleware",
        "--root-path",
        "--",
    ],
)
def test_what_shoal_sets_itself_is_refused_by_name(word: str) -> None:
    with pytest.raises(RefusedArgument, match=word.split("=")[0]):
        build(args=[word])


@pytest.mark.parametrize("word", ["--enable-log-requests", "--enable-log-outputs", "--enable_log_requests"])
def test_prompts_never_go_into_logs(word: str) -> None:
    with pytest.raises(RefusedArgument, match="prompts"):
        build(args=[word])


def a_parser() -> argparse.ArgumentParser:
    """Shaped like vLLM's: a positional word, short flags, and abbreviations allowed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--distributed-executor-backend")
    parser.add_argument("--nnodes", "-n", type=int, default=1)
    parser.add_argument("--api-key")
    parser.add_argument("--max-model-len", type=int)
    return parser


def verify(words: list[str], **changes: Any) -> None:
    config = a_config(**changes)
    layout = ranks.lay_out(config)
    parser = a_parser()
    flags = [Flag(tuple(action.option_strings), action.dest, action.default) for action in parser._actions]
    parsed = vars(parser.parse_args([*words, *engine_args.build(config, layout)]))
    engine_args.verify(config, layout, flags, parsed)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-n2"], "--nnodes"),  # a value stuck to a short flag
        (["--api-k", "secret"], "--api-key"),  # an abbreviation
        (["other-model"], "a word that belongs to no flag"),
    ],
)
def test_what_slips_past_the_words_is_seen_in_what_was_parsed(words: list[str], name: str) -> None:
    with pytest.raises(RefusedArgument, match=name):
        verify(words)


def test_harmless_words_pass() -> None:
    verify(["--max-model-len", "512"])
    verify([], tensor=2)


@pytest.mark.parametrize(
    ("words", "gpus", "eager"),
    [
        ([], 0, True),
        ([], 1, False),
        (["--no-enforce-eager"], 0, False),
        (["--compilation_config={}"], 0, False),
        (["--compilation-config.mode", "3"], 0, False),
    ],
)
def test_without_a_gpu_nothing_is_compiled_unless_asked_for(words: list[str], gpus: int, eager: bool) -> None:
    assert ("--enforce-eager" in engine_args.with_defaults(words, gpus)) is eager


def test_ranks_without_gpus_are_processes_side_by_side() -> None:
    layout = ranks.lay_out(a_config(tensor=2))
    assert (layout.ranks, layout.executor, layout.bundles) == (2, "mp", ({"CPU": 1},))


def test_ranks_on_gpus_get_one_bundle_with_a_gpu_each() -> None:
    layout = ranks.lay_out(a_config(tensor=2, pipeline=2, gpus=4))
    assert (layout.ranks, layout.executor, layout.bundles) == (4, "mp", ({"CPU": 1, "GPU": 4},))
    assert layout.actor_gpus == 4


def test_a_single_rank_is_left_to_vllms_own_executor() -> None:
    assert ranks.lay_out(a_config(gpus=1)).executor == ""


def test_pipeline_stages_without_gpus_are_refused() -> None:
    with pytest.raises(CannotLayOut, match=r"parallelism.pipeline is 2, but without GPUs"):
        ranks.lay_out(a_config(pipeline=2))


def test_more_ranks_than_gpus_are_refused_with_both_numbers() -> None:
    with pytest.raises(CannotLayOut, match=r"tensor × pipeline is 4, but this pod has 2 GPUs"):
        ranks.lay_out(a_config(tensor=2, pipeline=2, gpus=2))
