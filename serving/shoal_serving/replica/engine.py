"""The door to vLLM: its arguments checked by its own parser, its engine, and its own ASGI app."""

import multiprocessing
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import engine_args
from shoal_serving.replica.door import App
from shoal_serving.replica.engine_args import Flag, RefusedArgument
from shoal_serving.replica.ranks import Layout


class _Parser(FlexibleArgumentParser):  # type: ignore[misc]  # vLLM lives in another environment
    """vLLM's parser, without abbreviations, that raises what it would print."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise RefusedArgument(f"vLLM refuses engine.args: {message}")


def parse(config: ReplicaConfig, layout: Layout) -> Namespace:
    """The arguments as vLLM understands them; nothing is loaded yet."""
    words = engine_args.with_defaults(engine_args.build(config, layout), config.gpus)
    parser = make_arg_parser(_Parser())
    try:
        parsed: Namespace = parser.parse_args(words)
    except RefusedArgument:
        raise
    except SystemExit as error:
        raise RefusedArgument("engine.args asks for help or a version (--help, --version); remove it") from error
    except (TypeError, ValueError) as error:
        raise RefusedArgument(f"vLLM refuses engine.args: {error}") from error
    engine_args.verify(config, layout, _flags(parser), vars(parsed))
    try:
        validate_parsed_serve_args(parsed)
    except (TypeError, ValueError, OSError) as error:
        raise RefusedArgument(f"vLLM refuses engine.args: {error}") from error
    return parsed


def _flags(parser: FlexibleArgumentParser) -> list[Flag]:
    return [Flag(tuple(action.option_strings), action.dest, action.default) for action in parser._actions]


class _Server:
    """Stands where vLLM's app looks for its server, to stop it when the engine is dead; ours is ended from above."""

    should_exit = False


class Engine:
    """A running vLLM."""

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._stack = AsyncExitStack()
        self._client: Any = None
        self.tasks: Sequence[str] = ()

    async def start(self) -> App:
        """Load the model and answer vLLM's own app. Serve runs no lifespan, so all of it happens here."""
        self._client = await self._stack.enter_async_context(build_async_engine_client(self._arguments))
        self.tasks = await self._client.get_supported_tasks()
        app = build_app(self._arguments, self.tasks, self._client.model_config)
        await init_app_state(self._client, app.state, self._arguments, self.tasks)
        app.state.server = _Server()
        return app  # type: ignore[no-any-return]

    def text_of(self, ids: list[int]) -> str:
        """The text of token ids, as a stream of them shows it; empty where the engine runs without a tokenizer."""
        tokenizer = self._client.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(ids, skip_special_tokens=True))

    @property
    def default_max_tokens(self) -> int | None:
        """The limit that the model's own generation configuration sets for answers, if it has one."""
        most = self._client.model_config.get_diff_sampling_param().get("max_tokens")
        return most if isinstance(most, int) else None

    @property
    def is_dead(self) -> bool:
        return self._client is not None and bool(self._client.errored)

    @staticmethod
    def process_ids() -> list[int]:
        """The engine's processes that this one has started."""
        return [child.pid for child in multiprocessing.active_children() if child.pid is not None]
