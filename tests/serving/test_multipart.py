"""The model is found in whatever order a form has; nothing but its value is changed; garbage is told, never guessed."""

import random
from collections.abc import Sequence

import pytest

from shoal_serving.gateway import multipart
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.multipart import Form, Pieces

BOUNDARY = "----form7MA4YWxk"
KIND = f"multipart/form-data; boundary={BOUNDARY}".encode()
FILE = b"RIFF\r\n--\r\n----\x00\xff" + b"\r\n--" + BOUNDARY.encode()[:-1] + b'\r\nname="model"\r\n\r\nno\r\n'

Part = tuple[str, bytes]
MODEL: Part = ('form-data; name="model"', b"m")
STREAM: Part = ('form-data; name="stream"', b"true")
SOUND: Part = ('form-data; name="file"; filename="a; name=model.wav"\r\ncontent-type: audio/wav', FILE)
PROMPT: Part = ('form-data; name="prompt"', b'content-disposition: form-data; name="model"\r\n\r\nno')


def form(*parts: Part, boundary: str = BOUNDARY, header: str = "Content-Disposition") -> bytes:
    pieces = [f"--{boundary}\r\n{header}: {head}\r\n\r\n".encode() + value + b"\r\n" for head, value in parts]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def asked(body: bytes, kind: bytes = KIND) -> tuple[str, bool]:
    found = multipart.read(kind, body)
    assert isinstance(found, Form), found
    assert body[found.start : found.end].decode() == found.model
    return found.model, found.stream


def sent(pieces: Pieces) -> bytes:
    joined = b"".join(pieces.slices)
    assert len(joined) == len(pieces)
    return joined


@pytest.mark.parametrize(
    ("parts", "stream"),
    [
        ([MODEL, SOUND], False),
        ([SOUND, MODEL], False),
        ([SOUND, PROMPT, STREAM, MODEL], True),
        ([STREAM, MODEL, SOUND, PROMPT], True),
        ([MODEL], False),
        ([("form-data; name=model", b"m"), SOUND], False),
        ([('form-data;name="model"; x=y', b"m"), SOUND], False),
        ([('FORM-DATA; NAME="model"\r\ncontent-type: text/plain; charset=utf-8', b"m"), SOUND], False),
        ([('form-data; name="mo\\del"', b"m"), SOUND], False),
        ([MODEL, ('form-data; name="stream"', b"False"), SOUND], False),
        ([MODEL, ('form-data; name="stream"', b"1"), SOUND], True),
        ([MODEL, ('form-data; name="file"; filename="x"', b""), ('form-data; name="empty"', b"")], False),
    ],
)
def test_the_model_is_found_in_any_order(parts: list[Part], stream: bool) -> None:
    assert asked(form(*parts)) == ("m", stream)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; boundary="abc"', "abc"),
        ('Multipart/Form-Data ; charset=utf-8; BOUNDARY="a b:c"', "a b:c"),
        ("multipart/form-data;boundary=" + "x" * 70, "x" * 70),
        ('multipart/form-data; boundary="' + "'()+_,-./:=?" + '"', "'()+_,-./:=?"),
    ],
)
def test_the_boundary_is_read_quoted_and_unquoted(kind: str, boundary: str) -> None:
    assert asked(form(SOUND, MODEL, boundary=boundary), kind.encode()) == ("m", False)


def test_a_preamble_and_what_follows_the_end_are_no_parts() -> None:
    body = b"a preamble\r\n" + form(MODEL, SOUND) + form(("form-data; name=model", b"other"))
    assert asked(body) == ("m", False)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (b"multipart/form-data", form(MODEL), "names no valid boundary"),
        (b"multipart/form-data; boundary=", form(MODEL), "names no valid boundary"),
        (b"multipart/form-data; boundary=" + b"x" * 71, form(MODEL), "names no valid boundary"),
        (b'multipart/form-data; boundary="a\r\nb"', form(MODEL), "names no valid boundary"),
        (b"multipart/form-data; boundary=other", form(MODEL), "is not in it"),
        (KIND, b"", "is not in it"),
        (KIND, b'{"model":"m"}', "is not in it"),
        (KIND, form(MODEL)[:-4], "ends before its last boundary"),
        (KIND, form(MODEL).replace(b"\r\n\r\n", b"\r\n"), "no headers"),
        (KIND, form(("form-data; name=x; y=" + "z" * 9000, b""), MODEL), "too large"),
        (KIND, form(*[("form-data; name=x", b"")] * 1001, MODEL), "more than 1000"),
        (KIND, form(MODEL, SOUND, MODEL), "`model` is there twice"),
        (KIND, form(MODEL).replace(b"\r\n", b"\n"), "is not in it"),
    ],
)
def test_what_is_no_form_is_a_400_that_says_why(kind: bytes, body: bytes, said: str) -> None:
    refusal = multipart.read(kind, body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "invalid_multipart")
    assert said in refusal.message


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([SOUND], "missing_required_parameter"),
        ([], "missing_required_parameter"),
        ([('form-data; name="model"', b""), SOUND], "missing_required_parameter"),
        ([('form-data; name="Model"', b"m"), SOUND], "missing_required_parameter"),
        ([('form-data; name="model"; filename="m"', b"m"), SOUND], "missing_required_parameter"),
        ([('attachment; name="model"', b"m"), SOUND], "missing_required_parameter"),
        ([('form-data; name="model"', b"\xff"), SOUND], "invalid_type"),
        ([('form-data; name="model"', b"m" * 1025), SOUND], "invalid_type"),
    ],
)
def test_a_form_without_a_usable_model_names_the_parameter(parts: Sequence[Part], code: str) -> None:
    refusal = multipart.read(KIND, form(*parts))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (400, code, "model")


def test_another_name_is_spliced_in_and_nothing_else_is_touched_or_copied() -> None:
    body = bytearray(form(SOUND, MODEL, PROMPT))
    found = multipart.read(KIND, body)
    assert isinstance(found, Form)
    pieces = multipart.with_model(body, found, "größe/模型")
    assert sent(pieces) == form(SOUND, (MODEL[0], "größe/模型".encode()), PROMPT)
    assert all(pieces.slices[at].obj is body for at in (0, 2))
    assert sent(multipart.whole(body)) == bytes(body)


def test_any_form_is_read_as_it_was_written() -> None:
    chance = random.Random(7)
    alphabet = [b"\r\n", b"--", BOUNDARY.encode(), BOUNDARY[:5].encode(), b"\r\n--", b"x", b'name="model"', b"\x00"]
    whole = f"\r\n--{BOUNDARY}".encode()
    for _ in range(2000):
        value = b"".join(chance.choices(alphabet, k=chance.randrange(12)))
        if any(whole + end in b"\r\n" + value + b"\r\n" for end in (b"\r\n", b"--")):
            continue  # nobody may write such a value into a form with this boundary
        name = "".join(chance.choices("abc/-.:ü", k=chance.randrange(1, 9)))
        parts = [
            ('form-data; name="file"; filename="f"', value),
            PROMPT,
            STREAM,
            ("form-data; name=model", name.encode()),
        ]
        chance.shuffle(parts)
        assert asked(form(*parts)) == (name, True)


def test_garbage_is_refused_or_read_and_never_a_fault() -> None:
    chance = random.Random(8)
    good = form(SOUND, MODEL, STREAM)
    for _ in range(3000):
        body = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(body))
            match chance.randrange(3):
                case 0:
                    del body[at : at + chance.randrange(1, 40)]
                case 1:
                    body[at:at] = chance.randbytes(chance.randrange(1, 20))
                case _:
                    body = body[:at] + body[chance.randrange(len(body)) :]
            if not body:
                body = bytearray(b"-")
        found = multipart.read(KIND, body)
        if isinstance(found, Form):
            assert body[found.start : found.end].decode() == found.model
            assert 0 < found.start < found.end <= len(body)
        else:
            assert found.status == 400
