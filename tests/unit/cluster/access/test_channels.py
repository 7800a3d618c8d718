from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from websocket import ABNF, WebSocket

from windsock.cluster.access import channels as channels_module
from windsock.cluster.access.channels import ERROR, STDIN, STDOUT, Channels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Server:
    """The other side of a websocket, by hand."""

    def __init__(self, end: socket.socket) -> None:
        self._stream = end.makefile("rwb")
        self.masks: list[bytes] = []

    def message(self) -> bytes:
        first, second = self._stream.read(2)
        assert first == 0x80 | ABNF.OPCODE_BINARY
        assert second & 0x80, "a client has to mask"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._stream.read(2 if size == 126 else 8), "big")
        mask = self._stream.read(4)
        self.masks.append(mask)
        data = self._stream.read(size)
        if mask == bytes(4):
            return data
        return bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))

    def say(self, channel: int, data: bytes) -> None:
        self._stream.write(bytes([0x80 | ABNF.OPCODE_BINARY, len(data) + 1, channel]) + data)
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


@pytest.fixture(params=["plain", "encrypted"])
def pair(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Channels, Server]]:
    encrypted = request.param == "encrypted"
    monkeypatch.setattr(channels_module, "_is_encrypted", lambda _: encrypted)
    ours, theirs = socket.socketpair()
    websocket = WebSocket()
    websocket.sock = ours
    server, channels = Server(theirs), Channels(websocket)
    yield channels, server
    channels.close()
    server.close()
    theirs.close()
    assert all((mask == bytes(4)) is encrypted for mask in server.masks)


@pytest.mark.parametrize("size", [1, 124, 125, 126, 65534, 65535, 65536, 65537, 200_000])
def test_what_is_written_arrives_in_order_and_no_message_is_too_long(
    pair: tuple[Channels, Server], size: int
) -> None:
    channels, server = pair
    data = os.urandom(size)
    writer = threading.Thread(target=channels.write, args=(STDIN, data))
    writer.start()
    arrived = b""
    while len(arrived) < size:
        message = server.message()
        assert message[0] == STDIN
        assert len(message) <= channels_module.PIECE + 1
        arrived += message[1:]
    writer.join()
    assert arrived == data


def test_each_channel_is_read_by_itself(pair: tuple[Channels, Server]) -> None:
    channels, server = pair
    server.say(2, b"an error")
    server.say(STDOUT, b"said")
    assert channels.read(STDOUT, 100) == b"said"
    assert channels.read(2, 2) + channels.read(2, 100) == b"an error"


class EndsWhenWeSend:
    """A socket whose other side says its last words and ends while we send."""

    def __init__(self, inner: socket.socket, end: Callable[[], None]) -> None:
        self._inner = inner
        self._end = end

    def send(self, _: object) -> int:
        self._end()
        raise BrokenPipeError("Broken pipe")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_last_words_that_come_while_we_send_are_heard() -> None:
    ours, theirs = socket.socketpair()
    server = Server(theirs)

    def end() -> None:
        server.say(ERROR, b'{"status": "Success"}')
        server.close()
        theirs.close()

    websocket = WebSocket()
    websocket.sock = EndsWhenWeSend(ours, end)  # type: ignore[assignment] # all of it that is asked
    channels = Channels(websocket)
    channels.write(STDIN, b"nobody reads this")
    assert channels.read(ERROR, 100) == b'{"status": "Success"}'
    assert channels.wait_ended(20.0)
    channels.close()
