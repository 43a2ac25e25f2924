"""The inference surfaces: the paths that lead to a replica by the `model` in their body, and their dialects."""

from dataclasses import dataclass
from enum import StrEnum


class Dialect(StrEnum):
    """Whose shapes an answer has."""

    OPENAI = "OpenAI"
    RESPONSES = "Responses"
    MESSAGES = "Messages"


@dataclass(frozen=True, slots=True)
class Surface:
    """One routed path. `endings` are the marks of which one stands in the last event of an uncut stream.

    The body is JSON, or a multipart form where `is_form`.
    """

    path: str
    dialect: Dialect = Dialect.OPENAI
    endings: tuple[bytes, ...] = ()
    is_form: bool = False


_DONE = (b"data: [DONE]", b"data:[DONE]")
_RESPONSES_END = (b"event: response.completed", b"event: response.incomplete", b"event: response.failed", *_DONE)
_MESSAGES_END = (b"event: message_stop", *_DONE)

REALTIME_PATH = "/v1/realtime"
"""A WebSocket; its model stands in the query or in its first event."""

SURFACES: dict[bytes, Surface] = {
    surface.path.encode(): surface
    for surface in (
        Surface("/v1/chat/completions", endings=_DONE),
        Surface("/v1/chat/completions/batch"),
        Surface("/v1/completions", endings=_DONE),
        Surface("/v1/responses", Dialect.RESPONSES, _RESPONSES_END),
        Surface("/v1/messages", Dialect.MESSAGES, _MESSAGES_END),
        Surface("/v1/messages/count_tokens", Dialect.MESSAGES),
        Surface("/v1/audio/transcriptions", endings=_DONE, is_form=True),
        Surface("/v1/audio/translations", endings=_DONE, is_form=True),
        Surface("/v1/embeddings"),
        Surface("/v2/embed"),
        Surface("/pooling"),
        Surface("/classify"),
        Surface("/score"),
        Surface("/v1/score"),
        Surface("/rerank"),
        Surface("/v1/rerank"),
        Surface("/v2/rerank"),
        Surface("/generative_scoring"),
        Surface("/v1/systemone"),
        Surface("/tokenize"),
        Surface("/detokenize"),
    )
}
"""By raw path. What is not here never reaches an engine: control paths are unknown paths."""
