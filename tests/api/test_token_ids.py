"""Token ids stand beside the events that brought them, and what is left is what a client would have seen."""

import pytest

from shoal_api import token_ids


@pytest.mark.parametrize(
    ("event", "moved"),
    [
        ('data: {"a":1,"token_ids":[5, 6]}\n\n', 'data: ␞5,6␞{"a":1,"token_ids":null}\n\n'),
        ('data: {"prompt_token_ids":[1,2]}\n\n', 'data: ␞p1,2␞{"prompt_token_ids":null}\n\n'),
        (
            'data: {"prompt_token_ids":[1,2],"token_ids":[5]}\n\n',
            'data: ␞p1,2␞␞5␞{"prompt_token_ids":null,"token_ids":null}\n\n',
        ),
        ('data: {"token_ids":[]}\n\n', 'data: ␞␞{"token_ids":null}\n\n'),
        ('data: {"token_ids":[5]}\n\ndata: [DONE]\n\n', 'data: ␞5␞{"token_ids":null}\n\ndata: [DONE]\n\n'),
    ],
)
def test_ids_are_moved(event: str, moved: str) -> None:
    assert token_ids.moved(event.encode()) == moved.replace("␞", token_ids.MARK.decode()).encode()


@pytest.mark.parametrize(
    "event",
    [
        'data: {"token_ids":null}\n\n',
        'data: {"text":"\\"token_ids\\":[5]"}\n\n',
        'data: {"token_ids":["5"]}\n\n',
        ': "token_ids":[5]\n\n',
        "data: [DONE]\n\n",
        "",
    ],
)
def test_what_has_none_stays_as_it_is(event: str) -> None:
    assert token_ids.moved(event.encode()) == event.encode()
