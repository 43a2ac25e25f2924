"""Take the token ids out of an engine's events, in C where the wheel was compiled (`_token_ids.c`)."""

_NAME = b'token_ids":['
_OF_PROMPT = b'"prompt_'
_DIGITS = b"0123456789, "


def cut_out_by_python(events: bytes) -> tuple[bytes, bytes, bytes]:
    """The events as if no ids had been asked for, the ids of the answer, and those of the prompt.

    Ids are decimal numbers with commas between them, and a comma after each list. What has their name and is no list of
    numbers stays where it is.
    """
    pieces = events.split(_NAME)
    if len(pieces) == 1:
        return events, b"", b""
    shown = pieces[:1]
    ids = prompt = b""
    for piece in pieces[1:]:
        found, bracket, after = piece.partition(b"]")
        is_prompts = shown[-1].endswith(_OF_PROMPT)
        if bracket and not found.translate(None, _DIGITS) and (is_prompts or shown[-1].endswith(b'"')):
            shown.append(after)
            if is_prompts:
                prompt += found + b","
            else:
                ids += found + b","
        else:
            shown[-1] += _NAME + piece
    return (_NAME[:-1] + b"null").join(shown), ids, prompt


try:
    from shoal_serving.gateway._token_ids import cut_out as cut_out
except ImportError:  # not compiled
    cut_out = cut_out_by_python
