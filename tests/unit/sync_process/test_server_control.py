from __future__ import annotations

import errno
import json
import socket
import stat
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.model import Settled
from windsock.sync_process import server as server_module
from windsock.sync_process.control import ControlClient
from windsock.sync_process.server import ControlServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Message = dict[str, Any]


class Process:
    """A control server whose answers a test sets."""

    def __init__(self, path: Path) -> None:
        self.requests: list[Message] = []
        self.answers: dict[str, Callable[[], Message]] = {}
        names = ("status", "barrier", "allow-empty")
        self.server = ControlServer(path, dict.fromkeys(names, self._handle))
        self.server.start()

    def _handle(self, request: Message) -> Message:
        self.requests.append(request)
        return self.answers[request["request"]]()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def process(path: Path) -> Iterator[Process]:
    made = Process(path)
    yield made
    made.server.close()


def raises(error: WindsockError) -> Callable[[], Message]:
    def answer() -> Message:
        raise error

    return answer


def listen(client: ControlClient) -> tuple[Iterator[Message], Message]:
    """Attach; returns the further events, once the server knows of us."""
    events = client.attach()
    return events, next(events)


def test_a_request_gets_its_answer(process: Process, path: Path) -> None:
    process.answers["status"] = lambda: {"connected": True}
    assert ControlClient(path).status() == {"connected": True}
    process.answers["allow-empty"] = lambda: {"allowed": True}
    assert ControlClient(str(path)).allow_empty() == {"allowed": True}


def test_a_barrier_carries_its_deadline_and_gives_what_airflow_has(
    process: Process, path: Path
) -> None:
    process.answers["barrier"] = lambda: {
        "snapshot": "abc",
        "errors": {"a.py": "broken"},
        "dags": ["b", "c"],
    }
    settled = ControlClient(path).barrier(timeout=7)
    assert settled == Settled(snapshot="abc", errors={"a.py": "broken"}, dags=("b", "c"))
    assert process.requests == [{"request": "barrier", "timeout": 7}]


@pytest.mark.parametrize(
    "error",
    [DeadlineExceeded("too late", "look there"), EnvironmentFailure("halted", "put it back")],
)
def test_an_error_arrives_as_what_it_was(
    process: Process, path: Path, error: WindsockError
) -> None:
    process.answers["barrier"] = raises(error)
    with pytest.raises(type(error)) as caught:
        ControlClient(path).barrier()
    assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


@pytest.mark.parametrize(
    "ask", [lambda client: client.status(), lambda client: next(client.attach())]
)
def test_no_process_says_what_to_run(path: Path, ask: Callable[[ControlClient], Message]) -> None:
    with pytest.raises(EnvironmentFailure, match="does not answer") as caught:
        ask(ControlClient(path))
    assert "invoke up" in caught.value.hint


def test_a_process_that_says_nothing_is_a_deadline_exceeded(process: Process, path: Path) -> None:
    free = threading.Event()
    process.answers["status"] = lambda: {"late": free.wait(20)}
    try:
        with pytest.raises(DeadlineExceeded, match="did not answer"):
            ControlClient(path).status(timeout=0.01)
    finally:
        free.set()


def test_a_process_that_ends_meanwhile_is_no_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(EnvironmentFailure, match="the sync process ended"):
            ControlClient(path).status()
        thread.join()


def test_every_attached_client_gets_every_event_in_order(process: Process, path: Path) -> None:
    first, hello = listen(ControlClient(path))
    second, _ = listen(ControlClient(path))
    assert hello == {"type": "attached"}
    sent = [{"type": "note", "number": number} for number in range(50)]
    for message in sent:
        process.server.publish(message)
    process.server.close()
    assert list(first) == sent
    assert list(second) == sent


def test_a_client_that_leaves_does_not_disturb_the_others(process: Process, path: Path) -> None:
    leaver, _ = listen(ControlClient(path))
    stayer, _ = listen(ControlClient(path))
    assert isinstance(leaver, Generator)
    leaver.close()
    for number in range(20):
        process.server.publish({"number": number})
    process.server.close()
    assert len(list(stayer)) == 20


def test_a_client_that_does_not_read_is_dropped_and_told_so_by_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "EVENTS_KEPT", 5)
    process = Process(path)
    events, _ = listen(ControlClient(path))
    try:
        for number in range(50):  # More than the socket's buffers take.
            process.server.publish({"number": number, "padding": "x" * 100_000})
        seen = [event["number"] for event in events]  # It ends, without `close`.
    finally:
        process.server.close()
    assert seen == sorted(set(seen))
    assert 0 < len(seen) < 50


def test_an_unknown_request_is_refused_and_the_connection_stays(
    process: Process, path: Path
) -> None:
    process.answers["status"] = lambda: {"fine": True}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer,
    ):
        peer.connect(str(path))
        with peer.makefile("rwb") as stream:
            answers = []
            for request in ({"request": "dance"}, {}, {"request": "status"}):
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                answers.append(json.loads(stream.readline()))
    assert "dance" in answers[0]["error"]
    assert "error" in answers[1]
    assert answers[2] == {"fine": True}


def test_nonsense_ends_only_its_own_connection(process: Process, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(str(path))
        peer.sendall(b"\xff\xfe{\n")
        assert peer.recv(1) == b""
    process.answers["status"] = lambda: {"fine": True}
    assert ControlClient(path).status() == {"fine": True}


@pytest.mark.usefixtures("process")
def test_the_socket_is_for_its_owner_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_socket_of_a_killed_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    process = Process(path)
    process.answers["status"] = lambda: {"fine": True}
    assert ControlClient(path).status() == {"fine": True}
    process.server.close()
    assert not path.exists()


def test_a_client_that_was_attached_finds_the_successor_not_the_one_that_closed(
    process: Process, path: Path
) -> None:
    events, _ = listen(ControlClient(path))
    process.server.close()
    assert list(events) == []
    with pytest.raises(EnvironmentFailure):
        ControlClient(path).status()


def test_clients_are_served_again_after_too_many_files_were_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE", 0.001)
    failures = [OSError(errno.EMFILE, "too many open files"), OSError(errno.ECONNABORTED, "gone")]

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return super().accept()

    with monkeypatch.context() as broken:
        broken.setattr(socket, "socket", Listener)
        process = Process(path)
    process.answers["status"] = lambda: {"fine": True}
    assert ControlClient(path).status() == {"fine": True}
    assert not failures
    process.server.close()


def test_closing_ends_the_thread_that_waits_for_clients(path: Path) -> None:
    before = set(threading.enumerate())
    process = Process(path)
    (waiting,) = set(threading.enumerate()) - before
    process.server.close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_who_attaches_while_it_closes_is_not_left_waiting(process: Process, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as early:
        early.connect(str(path))
        with early.makefile("rwb") as stream:
            process.answers["status"] = lambda: {"fine": True}
            stream.write(b'{"request": "status"}\n')
            stream.flush()
            stream.readline()  # Its thread runs by now.
            process.server.close()
            stream.write(b'{"request": "attach"}\n')
            stream.flush()
            assert stream.readline() == b""
