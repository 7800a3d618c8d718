"""Sockets whose other side is looked for while nothing is said: a dead one ends within 20 seconds.

A watch may be quiet for minutes, and a log for hours. After a laptop has slept, or a VPN was cut,
nobody is left to say that such a connection has ended: the kernel finds out only if it asks.
"""

from __future__ import annotations

import socket

IDLE_SECONDS = 10
INTERVAL_SECONDS = 3
UNANSWERED = 3
"""Questions without an answer, after which the connection counts as broken."""


def socket_options() -> list[tuple[int, int, int]]:
    """Options as `socket.setsockopt` takes them; those that this system does not have are left out.

    They replace urllib3's own, of which there is one: small requests are sent at once.
    """
    # macOS has another name for the first of them.
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    tuned = {
        idle: IDLE_SECONDS,
        getattr(socket, "TCP_KEEPINTVL", None): INTERVAL_SECONDS,
        getattr(socket, "TCP_KEEPCNT", None): UNANSWERED,
    }
    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, name, value) for name, value in tuned.items() if name is not None),
    ]
