"""What is known of one stream that can be continued, and what the client may see of it.

While the stream runs, the transcript keeps the token ids that the engine was asked to send along and takes them out of
what the client sees. After a cut the ids of prompt and answer so far become a token prompt for another replica; its
completion events become the client's kind of events again.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from shoal_serving.gateway import sse
from shoal_serving.gateway.token_ids import cut_out

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"

_NOT_FOR_COMPLETIONS: Final = frozenset(
    (
        *("messages", "prompt", "max_tokens", "max_completion_tokens", "stream_options", "response_format", "n"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "echo", "modalities"),
        *("chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "documents"),
        *("reasoning_effort", "include_reasoning", "mm_processor_kwargs", "media_io_kwargs", "store", "metadata"),
    )
)
"""Fields of the client's body that mean nothing, or something else, to a completion of a token prompt."""

_TAIL_LIMIT: Final = 16 * 1024
"""Less is said after the last ids: an end, usage, a few comments."""
_LISTED_MOST: Final = 64
"""So many reads' ids may be listed one by one before they become one text."""
_COMPLETIONS_DEFAULT = 16
"""OpenAI's default of `max_tokens` for completions; chat has none."""


class Wish:
    """What is kept of the client's request, once the request itself is no longer needed."""

    __slots__ = ("most", "path", "sampling", "wants_usage")

    def __init__(self, path: str, sampling: dict[str, Any], most: int | None, wants_usage: bool) -> None:
        self.path = path
        self.sampling = sampling
        self.most = most
        """Tokens the answer may have; None where the client set no limit."""
        self.wants_usage = wants_usage

    @staticmethod
    def of(path: str, body: dict[str, Any]) -> "Wish":
        options = body.get("stream_options")
        most = body.get("max_tokens")
        if path == CHAT and body.get("max_completion_tokens") is not None:
            most = body["max_completion_tokens"]
        elif path == COMPLETIONS and "max_tokens" not in body:
            most = _COMPLETIONS_DEFAULT
        return Wish(
            path,
            {field: value for field, value in body.items() if field not in _NOT_FOR_COMPLETIONS},
            most if isinstance(most, int) else None,
            isinstance(options, dict) and options.get("include_usage") is True,
        )


class Unreadable(ValueError):
    """What a continuing replica sent is no event of a completion."""


class Transcript:
    """What is known of one eligible stream: its first event, the ids so far, and whether it came to its end.

    All but the taking out is left until a cut asks for it: the ids stay the text that the engine sent, and whether
    the answer had ended is read from the last events, which are kept as they came.
    """

    __slots__ = ("_first", "_ids", "_listed", "_prompt", "_tail", "is_resumed", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self._first = b""
        self._prompt = b""
        self._ids = bytearray()
        self._listed: list[bytes] = []
        """What came after those, an entry for each read."""
        self._tail = b""
        """The read that brought the last ids, and what came after it: an ending stands nowhere else."""
        self.is_resumed = False
        """Another replica makes the rest."""

    def show(self, events: bytes) -> bytes:
        """What the client may see of whole events, whichever replica sent them."""
        return self.converted(events) if self.is_resumed else self.take(events)

    def take(self, events: bytes) -> bytes:
        """Whole events of the engine as the client may see them: without the ids, as if they had not been asked for."""
        shown, ids, prompt = cut_out(events)
        if not self._first:
            self._first = shown[: shown.find(b"\n\n") + 2] or shown
            self._prompt = prompt
        if ids:
            self._tail = shown
            listed = self._listed
            listed.append(ids)
            if len(listed) > _LISTED_MOST:
                self._gather()
        elif self._prompt:
            self._tail = (self._tail + shown)[-_TAIL_LIMIT:]
        return shown

    def _gather(self) -> None:
        """The listed ids become text, which takes a tenth of the memory."""
        if self._listed:
            self._ids += b"".join(self._listed)
            self._listed = []

    @property
    def finished(self) -> bool:
        """Whether the answer told why it ended."""
        return b'"finish_reason":"' in self._tail

    @property
    def usage_sent(self) -> bool:
        """Whether it then told its usage."""
        return self.finished and b'"usage":{' in self._tail

    @property
    def can_continue(self) -> bool:
        """Whether what was seen is enough: the prompt's ids came, and the answer had not ended."""
        return bool(self._prompt) and not self._has_all

    @property
    def is_whole(self) -> bool:
        """Whether the answer only lacks its ending, and that can be told without a replica."""
        return bool(self._prompt) and self._has_all

    @property
    def _has_all(self) -> bool:
        return self.finished or (self.wish.most is not None and len(self.ids()) >= self.wish.most)

    def ids(self) -> list[int]:
        """The ids of the answer so far."""
        self._gather()
        return _numbers(self._ids)

    def prompt_ids(self) -> list[int]:
        """The ids of the prompt."""
        return _numbers(self._prompt)

    @property
    def prompt_bytes(self) -> int:
        """The bytes that are held for the prompt."""
        return len(self._prompt)

    def forget_prompt(self) -> None:
        """There is no room to keep it: the stream runs on, but it cannot be continued."""
        self._prompt = b""

    def head(self) -> dict[str, Any]:
        """`id`, `created` and `model` of the first event: those of the whole answer."""
        for event in sse.split(self._first):
            data = sse.data_of(event)
            if data and data != b"[DONE]":
                found = json.loads(data)
                return {field: found.get(field) for field in ("id", "created", "model")}
        raise ValueError("a transcript whose first event holds no data")

    def remaining(self) -> int | None:
        """Tokens the answer may still have; None where the client set no limit."""
        return None if self.wish.most is None else self.wish.most - len(self.ids())

    def request(self) -> bytes:
        """The body, for `/v1/completions` of another replica, that continues the answer."""
        body = dict(self.wish.sampling) | {
            "prompt": self.prompt_ids() + self.ids(),
            "max_tokens": self.remaining(),
            "stream": True,
            "return_token_ids": True,
            "add_special_tokens": False,
        }
        if self.wish.wants_usage:
            body["stream_options"] = {"include_usage": True}
        return json.dumps(body, separators=(",", ":")).encode()

    def resume(self, dropped: int) -> None:
        """Another replica goes on, without the last `dropped` ids: they end inside a character and are made again."""
        self.is_resumed = True
        if dropped:
            kept = self.ids()[:-dropped]
            self._ids = bytearray(b"".join(b"%d," % number for number in kept))

    def usage(self) -> dict[str, int]:
        """The usage of the one unbroken request."""
        prompt, answer = len(self.prompt_ids()), len(self.ids())
        return {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}

    def ending(self) -> bytes:
        """What a whole answer still lacks: the reason of its end, usage where asked for, `[DONE]`."""
        missing = b""
        if not self.finished:
            missing = _event(self._chunk([self._choice({"finish_reason": "length"})]))
        if self.wish.wants_usage and not self.usage_sent:
            missing += _event(self._chunk([]) | {"usage": self.usage()})
        return missing + b"data: [DONE]\n\n"

    def converted(self, events: bytes) -> bytes:
        """Whole events of the continuing completion as events of the client's first stream."""
        try:
            return b"".join(map(self._converted, sse.split(self.take(events))))
        except (ValueError, TypeError, AttributeError) as error:
            raise Unreadable(f"the continuing replica sent no completion event: {error}") from error

    def _converted(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if data is None or data == b"[DONE]":
            return event
        chunk = json.loads(data)
        converted = self._chunk([self._choice(choice) for choice in chunk.get("choices") or []])
        if chunk.get("usage") is not None:
            converted["usage"] = self.usage()
        return _event(converted)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.wish.path == CHAT else "text_completion"
        head = self.head()
        return {
            "id": head["id"],
            "object": kind,
            "created": head["created"],
            "model": head["model"],
            "choices": choices,
        }

    def _choice(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        text = choice.get("text") or ""
        said: dict[str, Any] = {"delta": {"content": text}} if self.wish.path == CHAT else {"text": text}
        end = {field: choice.get(field) for field in ("logprobs", "finish_reason", "stop_reason")}
        return {"index": 0} | said | end


def _numbers(listed: bytes | bytearray) -> list[int]:
    return [int(number) for number in listed.split(b",") if number]


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
