"""The other end of a forwarded port: a websocket of Kubernetes, behind which a pod answers."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from websocket import ABNF
from websocket._abnf import frame_buffer  # reads frames of either side; the public class connects

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DATA, ERROR = b"\0", b"\1"


def answer(handler: BaseHTTPRequestHandler, *, pod: str, port: int) -> None:
    """Accept the websocket, and say each line again with the name of the pod before it."""
    key = handler.headers["Sec-WebSocket-Key"].encode()
    accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - as it is defined
    handler.wfile.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accepted
    )
    handler.close_connection = True
    for channel in (DATA, ERROR):
        _send(handler, channel + port.to_bytes(2, "little"))

    def read(size: int) -> bytes:
        data = handler.rfile.read(size)
        if not data:
            raise ConnectionResetError
        return data

    frames: Any = frame_buffer(read, skip_utf8_validation=True)
    while True:
        frame = frames.recv_frame()
        if frame.opcode == ABNF.OPCODE_CLOSE:
            return
        _send(handler, DATA + pod.encode() + b": " + frame.data[1:])


def _send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    frame = ABNF(1, 0, 0, 0, ABNF.OPCODE_BINARY, 0, data)  # a server masks nothing
    handler.wfile.write(frame.format())
