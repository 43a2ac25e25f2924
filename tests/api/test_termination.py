"""Last words survive the way through a termination message."""

import pytest

from shoal_api import termination
from shoal_api.termination import LastWords


@pytest.mark.parametrize("permanent", [True, False])
def test_last_words_are_read_as_they_were_written(permanent: bool) -> None:
    words = LastWords("the file /m/config.json is missing: check spec.model.source", permanent)

    assert termination.read(words.to_text()) == words


def test_a_sentence_over_several_lines_becomes_one() -> None:
    assert LastWords("two\n  lines", False).to_text() == "two lines"


def test_a_long_sentence_is_cut_and_keeps_its_mark() -> None:
    text = LastWords("ü" * 5000, True).to_text()

    assert len(text.encode()) <= termination.LIMIT_BYTES
    assert termination.read(text) is not None
    assert text.startswith(termination.PERMANENT_MARK)


def test_no_text_is_no_last_words() -> None:
    assert termination.read(" \n") is None
