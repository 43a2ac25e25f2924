"""The rest of a cut stream on the wire: what another replica is asked for it, and whether its answer is that."""

from shoal_api import proof
from shoal_serving.gateway.attempt import Attempt, Outgoing
from shoal_serving.gateway.transcript import COMPLETIONS, Transcript

_FIRST_LINE = f"POST {COMPLETIONS} HTTP/1.1\r\n".encode()
_CONTINUE = proof.CONTINUE_HEADER.encode()
_DROPPED = proof.DROPPED_HEADER.encode()


def request(transcript: Transcript, lines: bytes, limit: int) -> Outgoing:
    """What goes out. `lines`: the header lines of the client's request for an engine; `limit`: the replica's."""
    lines += b"%b: %d\r\n" % (_CONTINUE, len(transcript.ids()))
    return (_FIRST_LINE, lines, limit, transcript.request())


def dropped(attempt: Attempt) -> int | None:
    """How many ids the replica left out of what it was asked; None where its answer is not the rest."""
    connection = attempt.connection
    if not attempt.is_stream or connection is None:
        return None
    told = connection.header(_DROPPED) or b"0"
    return int(told) if told.isdigit() else None
