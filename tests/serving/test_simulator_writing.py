"""The simulated model's text is a pure function of the tokens before it."""

import pytest

from shoal_serving.simulator.tokenizing import ASSISTANT, ByteTokenizer, chat, tokenizer
from shoal_serving.simulator.writing import Wish, write

KINDS = ("ascii", "bytes")


def a_prompt(kind: str) -> str:
    return chat(tokenizer(kind), [{"role": "user", "content": "Hello größe 😀"}], opens_answer=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer_tokens", [40, 1000])
def test_a_continuation_by_tokens_is_the_rest_of_the_unbroken_run(kind: str, answer_tokens: int) -> None:
    words, prompt, limit = tokenizer(kind), a_prompt(kind), 60
    unbroken = write(words, prompt, Wish(limit, answer_tokens))
    for cut in range(len(unbroken.tokens)):
        begun = words.whole(prompt + unbroken.tokens[:cut])[len(prompt) :]
        rest = write(words, prompt + begun, Wish(limit - len(begun), answer_tokens))
        assert begun + rest.tokens == unbroken.tokens
        assert rest.finish_reason == unbroken.finish_reason
        assert words.decode(begun) + rest.text == unbroken.text


@pytest.mark.parametrize("kind", KINDS)
def test_text_survives_its_tokens(kind: str) -> None:
    words = tokenizer(kind)
    for text in ("plain ASCII, 123", "größe 日本 😀", ""):
        assert words.decode(words.encode(text)) == text


def test_characters_take_several_tokens_in_the_byte_tokenizer() -> None:
    words = ByteTokenizer()
    assert [len(words.encode(character)) for character in "eé日😀"] == [1, 2, 3, 4]


def test_tokens_inside_a_character_are_dropped_and_no_others() -> None:
    words = ByteTokenizer()
    for character in "eé日😀":
        tokens = words.encode("ab" + character)
        for length in range(3, len(tokens)):
            assert words.decode(words.whole(tokens[:length])) == "ab"
        assert words.whole(tokens) == tokens
    assert words.whole(ASSISTANT) == ASSISTANT


def test_a_chat_ends_by_itself_and_says_stop() -> None:
    words = tokenizer("ascii")
    ended = write(words, a_prompt("ascii"), Wish(limit=100, answer_tokens=5))
    assert (len(ended.text), len(ended.tokens), ended.finish_reason) == (5, 6, "stop")
    assert write(words, a_prompt("ascii"), Wish(100, 5, ignores_end=True)).finish_reason == "length"


def test_a_plain_prompt_ends_only_at_its_limit() -> None:
    written = write(tokenizer("ascii"), "Hello", Wish(limit=30, answer_tokens=5))
    assert (len(written.text), written.finish_reason) == (30, "length")


def test_a_stop_string_is_never_shown() -> None:
    words = tokenizer("ascii")
    whole = write(words, "Hello", Wish(limit=30, answer_tokens=99)).text
    stop = whole[10:13]
    cut = write(words, "Hello", Wish(limit=30, answer_tokens=99, stops=(stop,)))
    assert (cut.text, cut.finish_reason, cut.stop_reason) == (whole[: whole.index(stop)], "stop", stop)


def test_different_prompts_and_choices_get_different_texts() -> None:
    words = tokenizer("ascii")
    texts = {write(words, f"prompt {at}", Wish(20, 99, salt=salt)).text for at in range(10) for salt in range(3)}
    assert len(texts) == 30
