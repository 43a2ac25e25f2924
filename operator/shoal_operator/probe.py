"""The door to what our own processes answer over HTTP on loopback."""

import http.client
from dataclasses import dataclass

_LARGEST_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes


def get(host: str, port: int, path: str, timeout_seconds: float) -> Answer | None:
    """The answer to a GET; None where there is none in time."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.read(_LARGEST_ANSWER))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
