from __future__ import annotations

import itertools
import json
import selectors
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.runtime.processor import channel as channel_module
from windsock.runtime.processor.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Message = dict[str, Any]


class Loop:
    """The dag-processor's selector, turned by hand, with a channel in it.

    `handler` answers requests in place of the manager; without it they are only kept.
    """

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.requests: list[Message] = []
        self.answers: list[Callable[[Message], None]] = []
        self.channel = Channel(path, self.selector, self._take)

    def _take(self, message: Message, answer: Callable[[Message], None]) -> None:
        self.requests.append(message)
        self.answers.append(answer)

    def turn(self) -> int:
        """Serve what is ready, as Airflow's `service_subprocesses` does; returns how many were."""
        ready = self.selector.select(timeout=0)
        for key, _ in ready:
            handler, on_close = key.data
            if not handler(key.fileobj):
                on_close(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
        return len(ready)

    def settle(self) -> None:
        """Turn until nothing is ready any more."""
        while self.turn():
            pass

    def close(self) -> None:
        self.channel.close()
        self.selector.close()


class Client:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.pending = b""

    def send(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def received(self) -> list[Any]:
        """What has come so far."""
        try:
            while data := self.socket.recv(1 << 20):
                self.pending += data
        except BlockingIOError:
            pass
        *lines, self.pending = self.pending.split(b"\n")
        return [json.loads(line) for line in lines]

    @property
    def ended(self) -> bool:
        """Whether the channel has hung up."""
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "channel.sock"


@pytest.fixture
def loop(path: Path) -> Iterator[Loop]:
    made = Loop(path)
    yield made
    made.close()


@pytest.fixture
def connect(loop: Loop, path: Path) -> Iterator[Callable[[], Client]]:
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client(path))
        loop.settle()
        return clients[-1]

    yield make
    for client in clients:
        client.socket.close()


def test_a_new_client_is_announced_so_that_it_can_be_greeted(
    loop: Loop, connect: Callable[[], Client]
) -> None:
    client = connect()
    assert loop.requests == [{"type": "connected"}]
    loop.answers[0]({"type": "hello"})
    assert client.received() == [{"type": "hello"}]


def test_an_answer_goes_to_who_asked_and_a_broadcast_to_all(
    loop: Loop, connect: Callable[[], Client]
) -> None:
    first, second = connect(), connect()
    first.send({"type": "state"})
    loop.settle()
    loop.answers[-1]({"for": "first"})
    loop.channel.broadcast({"for": "all"})
    assert first.received() == [{"for": "first"}, {"for": "all"}]
    assert second.received() == [{"for": "all"}]


@given(
    st.lists(
        st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=3), max_size=5
    ),
    st.data(),
)
def test_requests_arrive_whole_and_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    path = tmp_path_factory.mktemp("c") / "s"
    loop, client = Loop(path), Client(path)
    try:
        loop.settle()
        for start, end in itertools.pairwise([0, *cuts, len(stream)]):
            client.socket.sendall(stream[start:end])
            loop.settle()
        assert loop.requests[1:] == messages
    finally:
        client.socket.close()
        loop.close()


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"null"])
def test_what_is_no_request_is_refused_and_the_next_one_served(
    loop: Loop, connect: Callable[[], Client], line: bytes
) -> None:
    client = connect()
    client.socket.sendall(line + b"\n")
    client.send({"type": "poke"})
    loop.settle()
    assert client.received() == [{"type": "refused", "reason": "not a JSON object"}]
    assert loop.requests[-1] == {"type": "poke"}


def test_a_line_without_end_is_cut_off(
    loop: Loop, connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "LONGEST_LINE", 1000)
    client = connect()
    client.socket.sendall(b"x" * 1001)
    loop.settle()
    assert client.ended


def test_a_client_that_leaves_is_forgotten(loop: Loop, connect: Callable[[], Client]) -> None:
    leaver, stayer = connect(), connect()
    leaver.socket.close()
    loop.settle()
    loop.channel.broadcast({"type": "settled"})
    assert stayer.received() == [{"type": "settled"}]
    assert len(loop.selector.get_map()) == 2  # The listener and who stayed.


def test_a_client_that_reads_slowly_gets_everything_in_the_end(
    loop: Loop, connect: Callable[[], Client]
) -> None:
    """More than the socket takes at once; the loop is never blocked by it."""
    client = connect()
    messages = [{"number": number, "padding": "x" * 10_000} for number in range(100)]
    for message in messages:
        loop.channel.broadcast(message)
    found: list[Any] = []
    while len(found) < len(messages):
        found += client.received()
        assert loop.turn() or len(found) == len(messages)
    assert found == messages
    assert loop.turn() == 0  # It does not spin on a socket that could be written to.


def test_a_client_that_never_reads_does_not_fill_the_memory(
    loop: Loop, connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "LONGEST_LINE", 50_000)
    connect()
    for _ in range(100):
        loop.channel.broadcast({"padding": "x" * 10_000})
    (connection,) = loop.channel._connections.values()
    assert len(connection.outgoing) < 70_000


def test_a_client_that_was_killed_while_it_was_owed_something_is_forgotten(
    loop: Loop, connect: Callable[[], Client]
) -> None:
    client = connect()
    for _ in range(100):
        loop.channel.broadcast({"padding": "x" * 10_000})
    client.socket.close()
    loop.channel.broadcast({"type": "settled"})
    loop.settle()
    assert len(loop.selector.get_map()) == 1


def test_the_socket_is_for_its_owner_alone_and_a_stale_one_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    loop = Loop(path)
    client = Client(path)
    loop.settle()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert loop.requests == [{"type": "connected"}]
    client.socket.close()
    loop.close()


def test_a_forked_parser_closes_its_copies_without_ending_the_conversation(
    loop: Loop, connect: Callable[[], Client]
) -> None:
    """A fork shares the connection: closing must not shut it down for the dag-processor."""
    client = connect()
    (peer,) = loop.channel._connections
    original = peer.dup()
    loop.channel.close()
    assert not client.ended
    original.close()
    assert client.ended
