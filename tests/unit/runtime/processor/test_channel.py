from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING

import pytest

from windsock.events import (
    Event,
    ProcessorState,
    References,
    RequestRefused,
    Settled,
    from_line,
    to_line,
)
from windsock.json_lines import encode
from windsock.runtime.processor.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = ProcessorState(snapshot=None, awaited=(), files=())


class Client:
    """What connects to a channel; it never blocks."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.socket.setblocking(False)

    def send(self, *types: str) -> None:
        self.socket.sendall(b"".join(encode({"type": each}) for each in types))

    def received(self) -> list[Event | None]:
        """What has come since it was asked last."""
        try:
            return [from_line(line) for line in self.socket.recv(1 << 20).splitlines()]
        except BlockingIOError:
            return []


class Loop:
    """The dag-processor's selector, run by hand, with a channel in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.selector = selectors.DefaultSelector()
        self.pokes = 0
        self.error: Exception | None = None
        self.clients: list[Client] = []
        self.channel = Channel(
            path,
            greeting=lambda: STATE,
            requests={"poke": self._poke, "references": self._references},
            selector=self.selector,
        )

    def _poke(self) -> None:
        self.pokes += 1

    def _references(self) -> References:
        if self.error is not None:
            raise self.error
        return References(snapshots=("a", "b"))

    def settle(self) -> None:
        """Serve until nothing is ready any more, as Airflow does."""
        while ready := self.selector.select(timeout=0):
            for key, _ in ready:
                handler, on_close = key.data
                if not handler(key.fileobj):
                    on_close(key.fileobj)

    def connect(self) -> Client:
        self.clients.append(Client(self.path))
        self.settle()
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.socket.close()
        self.channel.close()
        self.selector.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path / "channel.sock")
    yield made
    made.close()


def test_each_client_is_greeted_and_gets_every_event(loop: Loop) -> None:
    first, second = loop.connect(), loop.connect()
    event = Settled(snapshot="a", seconds=1)
    loop.channel.broadcast(event)
    assert first.received() == second.received() == [STATE, event]


def test_an_answer_goes_to_the_client_that_asked(loop: Loop) -> None:
    first, second = loop.connect(), loop.connect()
    first.send("poke", "references")
    loop.settle()
    assert loop.pokes == 1
    assert first.received() == [STATE, References(snapshots=("a", "b"))]
    assert second.received() == [STATE]


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"\xff\xfe", b'{"type": "dance"}'])
def test_what_is_no_request_is_refused_and_the_next_one_served(loop: Loop, line: bytes) -> None:
    client = loop.connect()
    client.socket.sendall(line + b"\n")
    client.send("poke")
    loop.settle()
    _, refused = client.received()
    assert isinstance(refused, RequestRefused)
    assert loop.pokes == 1


def test_a_request_that_fails_is_refused_and_may_be_made_again(loop: Loop) -> None:
    client = loop.connect()
    for error in (RuntimeError("no database"), None):
        loop.error = error
        client.send("references")
        loop.settle()
    _, refused, answer = client.received()
    assert refused == RequestRefused(reason="RuntimeError('no database')")
    assert answer == References(snapshots=("a", "b"))


def test_an_event_is_its_line(loop: Loop) -> None:
    client = loop.connect()
    assert client.socket.recv(1 << 20) == to_line(STATE)


def test_a_forked_parser_closes_the_channel_and_sends_nothing(loop: Loop) -> None:
    client = loop.connect()
    client.received()
    loop.channel.close()
    loop.channel.broadcast(Settled(snapshot="a", seconds=1))
    assert client.received() == []
