"""What the gateway is told of a model beside its endpoints."""

from datetime import UTC, datetime

import pytest

from builders import a_model
from shoal_operator import routing
from shoal_operator.observed import Observed


@pytest.mark.parametrize(
    ("args", "separates"),
    [
        ([], False),
        (["--reasoning-parser", "qwen3"], True),
        (["--max-model-len", "8192", "--reasoning-parser=qwen3"], True),
        (["--reasoning_parser", "qwen3"], True),
        (["--structured-outputs-config.reasoning_parser", "qwen3"], True),
        (["--structured-outputs-config", '{"reasoning_parser": "qwen3"}'], True),
        (["--tool-call-parser", "hermes"], False),
    ],
)
def test_a_reasoning_parser_is_told(args: list[str], separates: bool) -> None:
    md = a_model(engine={"args": args})
    md = md.model_copy(
        update={"metadata": md.metadata.model_copy(update={"creation_timestamp": datetime(2026, 1, 1, tzinfo=UTC)})}
    )

    assert routing.route(md, md.status, Observed()).reasoning_parser is separates
