from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock import json_lines
from windsock.json_lines import Client, Connection, Server, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HELLO = encode({"type": "hello"})


class Loop:
    """A server in the selector of its caller, which a test runs by hand."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.lines: list[bytes] = []
        self.senders: list[Connection] = []
        self.server = Server(
            path, self._take, on_connect=lambda new: new.subscribe(HELLO), selector=self.selector
        )

    def _take(self, line: bytes, sender: Connection) -> None:
        self.lines.append(line)
        self.senders.append(sender)

    def serve(self) -> int:
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
        """Serve until nothing is ready any more."""
        while self.serve():
            pass

    def close(self) -> None:
        self.server.close()
        self.selector.close()


class Peer:
    """A client that never blocks."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.pending = b""
        self.ended = False

    def received(self) -> list[Any]:
        """What has come so far."""
        try:
            while data := self.socket.recv(1 << 20):
                self.pending += data
            self.ended = True
        except BlockingIOError:
            pass
        *lines, self.pending = self.pending.split(b"\n")
        return [decode(line) for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.sock"


@pytest.fixture
def loop(path: Path) -> Iterator[Loop]:
    made = Loop(path)
    yield made
    made.close()


@pytest.fixture
def connect(loop: Loop, path: Path) -> Iterator[Callable[[], Peer]]:
    peers: list[Peer] = []

    def make() -> Peer:
        peers.append(Peer(path))
        loop.settle()
        assert peers[-1].received() == [{"type": "hello"}]
        return peers[-1]

    yield make
    for peer in peers:
        peer.socket.close()


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_nothing(line: bytes) -> None:
    assert decode(line) is None


def test_an_answer_goes_to_the_client_that_asked_and_what_is_published_to_all(
    loop: Loop, connect: Callable[[], Peer]
) -> None:
    first, second = connect(), connect()
    first.socket.sendall(encode({"type": "state"}))
    loop.settle()
    loop.senders[-1].send(encode({"for": "first"}))
    loop.server.publish(encode({"for": "all"}))
    assert first.received() == [{"for": "first"}, {"for": "all"}]
    assert second.received() == [{"for": "all"}]


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3)), st.data())
def test_lines_arrive_whole_and_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    path = tmp_path_factory.mktemp("c") / "s"
    loop, peer = Loop(path), Peer(path)
    try:
        for start, end in itertools.pairwise([0, *cuts, len(stream)]):
            peer.socket.sendall(stream[start:end])
            loop.settle()
        assert [decode(line) for line in loop.lines] == messages
    finally:
        peer.socket.close()
        loop.close()


def test_a_line_without_end_is_cut_off(
    loop: Loop, connect: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "MAXIMUM_BYTES", 1000)
    peer = connect()
    peer.socket.sendall(b"x" * 1001)
    loop.settle()
    peer.received()
    assert peer.ended


def test_a_client_that_closes_its_socket_is_forgotten(
    loop: Loop, connect: Callable[[], Peer]
) -> None:
    leaver, stayer = connect(), connect()
    leaver.socket.close()
    loop.settle()
    loop.server.publish(encode({"type": "settled"}))
    assert stayer.received() == [{"type": "settled"}]
    assert len(loop.selector.get_map()) == 2  # The listener and who stayed.


def test_a_client_that_reads_slowly_gets_everything_in_the_end(
    loop: Loop, connect: Callable[[], Peer]
) -> None:
    """More than the socket takes at once; the loop is never blocked by it."""
    peer = connect()
    messages = [{"number": number, "padding": "x" * 10_000} for number in range(100)]
    for message in messages:
        loop.server.publish(encode(message))
    found: list[Any] = []
    while len(found) < len(messages):
        found += peer.received()
        assert loop.serve() or len(found) == len(messages)
    assert found == messages
    assert loop.serve() == 0  # It does not spin on a socket that could be written to.


def test_a_long_line_costs_no_more_the_more_pieces_it_comes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line of 16 MiB comes in 256 pieces: what has come is not copied at each."""
    copied = [0]

    class Counting(bytearray):
        def __init__(self, data: bytes = b"") -> None:
            copied[0] += len(data)
            super().__init__(data)

    monkeypatch.setattr(json_lines, "bytearray", Counting, raising=False)
    ours, theirs = socket.socketpair()
    connection = Connection(ours, lambda _: None)
    pieces = 50
    with ours, theirs:
        for _ in range(pieces):
            theirs.sendall(b"x" * 10_000)
            assert connection.receive() == []
        theirs.sendall(b"\nnext\nhalf")
        assert connection.receive() == [b"x" * 10_000 * pieces, b"next"]
    assert copied[0] <= 10_000 * pieces


def test_a_greeting_of_any_size_leaves_room_for_what_comes_meanwhile(
    loop: Loop, connect: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a client would be hung up on, greeted again, hung up on …"""
    monkeypatch.setattr(json_lines, "MAXIMUM_BYTES", 1000)
    peer = connect()
    loop.senders.clear()
    peer.socket.sendall(encode({"type": "greet me"}))
    loop.settle()
    loop.senders[-1].subscribe(encode({"padding": "x" * 1_000_000}))
    loop.server.publish(encode({"type": "settled"}))
    found: list[Any] = []
    while len(found) < 2:
        found += peer.received()
        loop.serve()
        assert not peer.ended
    assert found[1] == {"type": "settled"}


def test_a_client_that_never_reads_is_hung_up_on_and_may_come_again(
    loop: Loop, connect: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would miss a line otherwise, and take what it knows for all there is."""
    monkeypatch.setattr(json_lines, "MAXIMUM_BYTES", 50_000)
    peer = connect()
    for number in range(100):
        loop.server.publish(encode({"number": number, "padding": "x" * 10_000}))
    loop.settle()
    numbers = [message["number"] for message in peer.received()]
    assert peer.ended
    assert 0 < len(numbers) < 100
    assert numbers == list(range(len(numbers)))
    connect()


def test_a_line_of_any_size_reaches_a_client_that_reads(
    loop: Loop, connect: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "MAXIMUM_BYTES", 1000)
    peer = connect()
    loop.server.publish(encode({"padding": "x" * 1_000_000}))
    found: list[Any] = []
    while not found:
        found = peer.received()
        loop.serve()
    assert len(found[0]["padding"]) == 1_000_000


def test_a_client_that_was_killed_while_lines_waited_for_it_is_forgotten(
    loop: Loop, connect: Callable[[], Peer]
) -> None:
    peer = connect()
    for _ in range(100):
        loop.server.publish(encode({"padding": "x" * 10_000}))
    peer.socket.close()
    loop.server.publish(encode({"type": "settled"}))
    loop.settle()
    assert len(loop.selector.get_map()) == 1


def test_the_socket_is_for_its_owner_alone_and_a_stale_one_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    loop = Loop(path)
    peer = Peer(path)
    loop.settle()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert peer.received() == [{"type": "hello"}]
    peer.socket.close()
    loop.close()


def test_a_fork_closes_its_copies_without_ending_the_conversation(
    loop: Loop, connect: Callable[[], Peer]
) -> None:
    """A fork shares the connection: closing must not shut it down for the parent."""
    peer = connect()
    child = os.fork()
    if child == 0:
        loop.server.close()
        loop.server.publish(encode({"type": "from the fork"}))
        os._exit(0)
    os.waitpid(child, 0)
    loop.server.publish(encode({"type": "settled"}))
    assert peer.received() == [{"type": "settled"}]
    loop.server.close()
    peer.received()
    assert peer.ended


class Echo:
    """A server with a thread of its own, which sends each line back."""

    def __init__(self, path: Path) -> None:
        self.server = Server(path, lambda line, sender: sender.send(line + b"\n"))
        self.server.start("echo")


@pytest.fixture
def echo(path: Path) -> Iterator[Echo]:
    made = Echo(path)
    yield made
    made.server.stop()


@pytest.mark.usefixtures("echo")
def test_a_client_gets_its_answers(path: Path) -> None:
    with Client(path) as client:
        client.send(b"one\ntwo\n")
        lines = client.lines()
        assert [next(lines), next(lines)] == [b"one\n", b"two\n"]


def test_a_client_without_a_server_fails_at_once(path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Client(path)


def test_a_line_that_the_end_of_the_server_cuts_off_is_none(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with Client(path) as client:
            peer, _ = listener.accept()
            peer.sendall(b'{"a": 1}\n{"b"')
            peer.close()
            assert list(client.lines()) == [b'{"a": 1}\n']


def test_a_stopped_server_ends_its_thread_and_its_clients(echo: Echo, path: Path) -> None:
    with Client(path) as client:
        client.send(b"one\n")
        lines = client.lines()
        assert next(lines) == b"one\n"
        echo.server.stop()
        assert list(lines) == []
    assert "echo" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(OSError, match="No such file"):
        Client(path)


def test_clients_are_served_again_after_too_many_files_were_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.EMFILE, "too many open files"), OSError(errno.ECONNABORTED, "gone")]

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return super().accept()

    with monkeypatch.context() as broken:
        broken.setattr(socket, "socket", Listener)
        server = Server(path, lambda line, sender: sender.send(line + b"\n"))
    server.start("echo")
    try:
        with Client(path) as client:
            client.send(b"one\n")
            assert next(client.lines()) == b"one\n"
    finally:
        server.stop()
    assert not failures
