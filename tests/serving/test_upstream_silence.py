"""A node that loses its power closes no connection: the kernel is told to notice."""

import socket

from shoal_serving.gateway import upstream


def test_a_connection_whose_other_end_fell_silent_is_lost_within_half_a_minute() -> None:
    with socket.socket() as raw:
        upstream.notice_silence(raw)
        level = socket.IPPROTO_TCP
        idle, every, count, unacknowledged = (
            raw.getsockopt(level, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        )

        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + every * count == upstream.SILENCE_SECONDS
        assert unacknowledged == upstream.SILENCE_SECONDS * 1000
        assert idle > upstream.IDLE_SECONDS, "a pooled connection is closed before it is asked anything"
