"""What travels on and what does not."""

import pytest

from shoal_serving.gateway import headers


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "x-api-key",
        "api-key",
        "cookie",
        "x-shoal-mac",
        "x-shoal-anything",
        "forwarded",
        "x-forwarded-for",
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "connection",
        "te",
        "transfer-encoding",
        "host",
        "expect",
        "content-length",
        "upgrade",
        "keep-alive",
        "x-request-id",
        "traceparent",
        "proxy-authorization",
        "accept-encoding",
    ],
)
def test_a_clients_header_that_no_engine_sees(name: str) -> None:
    assert headers.of_request([(name.encode(), b"secret")]).forwarded == b""


def test_everything_else_travels_on_unchanged() -> None:
    lines = [(b"content-type", b"application/json"), (b"x-stainless-retry-count", b"1"), (b"user-agent", b"a b")]
    expected = b"content-type: application/json\r\nx-stainless-retry-count: 1\r\nuser-agent: a b\r\n"
    assert headers.of_request(lines).forwarded == expected


def test_what_connection_names_stays_on_its_hop() -> None:
    read = headers.of_request([(b"x-hop", b"1"), (b"x-end", b"2"), (b"connection", b"close, X-Hop")])
    assert read.forwarded == b"x-end: 2\r\n"


@pytest.mark.parametrize(
    ("value", "taken"), [(b"abc-1", b"abc-1"), (b"", b""), (b"a b", b""), (b"\xc3\xa9", b""), (b"x" * 129, b"")]
)
def test_a_request_id_is_taken_where_it_is_safe_to_repeat(value: bytes, taken: bytes) -> None:
    assert headers.of_request([(b"x-request-id", value)]).request_id == taken


def test_a_trace_is_taken_where_it_is_one() -> None:
    good = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    assert headers.of_request([(b"traceparent", good)]).traceparent == good
    assert headers.of_request([(b"traceparent", b"00-xyz")]).traceparent == b""


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (b"date", True),
        (b"content-type", True),
        (b"x-forwarded-for", True),
        (b"x-shoal-proof", False),
        (b"x-shoal-anything", False),
        (b"connection", False),
        (b"transfer-encoding", False),
        (b"content-length", False),
        (b"x-request-id", False),
        (b"server-timing", False),
    ],
)
def test_an_engines_headers_without_what_is_between_us(name: bytes, seen: bool) -> None:
    assert [headers.travels_back(name) for _ in range(2)] == [seen, seen], "the second time from memory"


@pytest.mark.parametrize(
    ("value", "is_json"),
    [(b"application/json", True), (b"Application/JSON; charset=utf-8", True), (b"", False), (b"text/plain", False)],
)
def test_content_types(value: bytes, is_json: bool) -> None:
    assert headers.is_json(value) is is_json


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        (b"x-stainless-read-timeout", b"600", 600.0),
        (b"x-stainless-timeout", b"30", 30.0),
        (b"x-stainless-read-timeout", b"soon", 0.0),
        (b"x-stainless-retry-count", b"2", 0.0),
    ],
)
def test_how_long_a_client_listens_is_read_and_travels_on(name: bytes, value: bytes, seconds: float) -> None:
    read = headers.of_request([(name, value)])
    assert read.patience == seconds
    assert read.forwarded == name + b": " + value + b"\r\n"
