"""An exec stream whose other side is a socket of ours; the rest is in tests/cluster."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from websocket import ABNF, WebSocket

from windsock.cluster.access import streams
from windsock.cluster.access.streams import STATUS, STDERR, STDIN, STDOUT, ExecTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_CODE = {"details": {"causes": [{"reason": "ExitCode", "message": "7"}]}, "status": "Failure"}


class Server:
    """The other side of a websocket, by hand."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
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
        size = len(data) + 1
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        self._stream.write(bytes([0x80 | ABNF.OPCODE_BINARY]) + length + bytes([channel]) + data)
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()
        self._end.close()


def connected(*, masks: bool = True) -> tuple[ExecTransport, Server]:
    ours, theirs = socket.socketpair()
    websocket = WebSocket()
    websocket.sock = ours
    return ExecTransport(websocket, pod="the-pod", masks=masks), Server(theirs)


@pytest.fixture(params=[True, False], ids=["masked", "unmasked"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ExecTransport, Server]]:
    transport, server = connected(masks=request.param)
    yield transport, server
    transport.close()
    server.close()
    assert all((mask != bytes(4)) is request.param for mask in server.masks)


@pytest.mark.parametrize("size", [1, 124, 125, 126, 65534, 65535, 65536, 65537, 200_000])
def test_what_is_written_arrives_in_order_and_no_message_is_too_long(
    pair: tuple[ExecTransport, Server], size: int
) -> None:
    transport, server = pair
    data = os.urandom(size)
    writer = threading.Thread(target=transport.write, args=(data,))
    writer.start()
    arrived = b""
    while len(arrived) < size:
        message = server.message()
        assert message[0] == STDIN
        assert len(message) <= streams.PIECE_BYTES + 1
        arrived += message[1:]
    writer.join()
    assert arrived == data


def test_what_the_command_prints_is_read_in_pieces(pair: tuple[ExecTransport, Server]) -> None:
    transport, server = pair
    server.say(STDERR, b"a warning\n")
    server.say(STDOUT, b"said")
    assert transport.read(2) + transport.read(100) == b"said"
    assert transport.diagnosis() == "a warning"


def test_a_connection_that_is_closed_takes_no_more(pair: tuple[ExecTransport, Server]) -> None:
    transport, _ = pair
    transport.close()
    assert transport.read(100) == b""
    assert not transport.alive
    with pytest.raises(BrokenPipeError):
        transport.write(b"more")


class EndsWhenWeSend:
    """A socket whose other side says how the command ended, and ends itself, while we send."""

    def __init__(self, inner: socket.socket, end: Callable[[], None]) -> None:
        self._inner = inner
        self._end = end

    def send(self, _: object) -> int:
        self._end()
        raise BrokenPipeError("Broken pipe")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_how_the_command_ended_is_heard_also_while_we_send() -> None:
    ours, theirs = socket.socketpair()
    server = Server(theirs)

    def end() -> None:
        server.say(STATUS, json.dumps(EXIT_CODE).encode())
        server.close()

    websocket = WebSocket()
    websocket.sock = EndsWhenWeSend(ours, end)  # type: ignore[assignment] # all of it that is asked
    transport = ExecTransport(websocket, pod="the-pod")
    transport.write(b"nobody reads this")
    assert transport.read(100) == b""
    assert "exit code 7" in transport.diagnosis()
    transport.close()


def diagnosis(status: bytes) -> str:
    """After a command of which the cluster says this, and a connection that broke then."""
    transport, server = connected()
    server.say(STATUS, status)
    server.close()
    assert transport.read(100) == b""
    transport.close()
    return transport.diagnosis()


@pytest.mark.parametrize(
    ("status", "last_line"),
    [
        (EXIT_CODE, "the agent ended with exit code 7"),
        ({"status": "Failure", "message": "no python3"}, "no python3"),
    ],
)
def test_how_the_agent_ended_is_the_last_line(status: dict[str, Any], last_line: str) -> None:
    assert diagnosis(json.dumps(status).encode()).splitlines()[-1] == last_line


@pytest.mark.parametrize("cut", [0, 1, 20, 60])
def test_a_status_that_a_cut_has_shortened_says_nothing(cut: int) -> None:
    told = diagnosis(json.dumps(EXIT_CODE).encode()[:cut]).splitlines()
    assert len(told) == 1
    assert told[0].startswith("the connection to pod the-pod broke: ")
