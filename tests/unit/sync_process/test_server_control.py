from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from windsock import json_lines
from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.events import Attached, Event, Note, to_line
from windsock.model import ParsedSnapshot
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


def listen(client: ControlClient) -> Iterator[Event]:
    """Attach; returns the further events, once the server knows of us."""
    attached = client.attach()
    assert next(attached) == Attached()
    return attached


def publish(process: Process, count: int, padding: str = "") -> list[Event]:
    """Publish so many events, and return them."""
    sent: list[Event] = [Note(message=f"{each}{padding}") for each in range(count)]
    for event in sent:
        process.server.publish(to_line(event))
    return sent


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
    assert settled == ParsedSnapshot(snapshot="abc", errors={"a.py": "broken"}, dags=("b", "c"))
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
        ControlClient(path).barrier(timeout=60)
    assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


@pytest.mark.parametrize(
    "ask", [lambda client: client.status(), lambda client: next(client.attach())]
)
def test_no_process_says_what_to_run(path: Path, ask: Callable[[ControlClient], Any]) -> None:
    with pytest.raises(EnvironmentFailure, match="does not answer") as caught:
        ask(ControlClient(path))
    assert "invoke up" in caught.value.hint


def test_a_process_that_does_not_answer_is_a_deadline_exceeded(
    process: Process, path: Path
) -> None:
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
    first, second = listen(ControlClient(path)), listen(ControlClient(path))
    sent = publish(process, 50)
    process.server.close()
    assert list(first) == sent
    assert list(second) == sent


def test_a_client_that_leaves_does_not_disturb_the_others(process: Process, path: Path) -> None:
    leaver, stayer = listen(ControlClient(path)), listen(ControlClient(path))
    assert isinstance(leaver, Generator)
    leaver.close()
    publish(process, 20)
    process.server.close()
    assert len(list(stayer)) == 20


def test_a_client_that_does_not_read_is_hung_up_on(process: Process, path: Path) -> None:
    attached = listen(ControlClient(path))
    sent = publish(process, 200, "x" * 100_000)  # 20 MB wait at once.
    assert len(sent) * 100_000 > json_lines.MAXIMUM_BYTES
    seen = list(attached)  # It ends, without `close`.
    assert 0 < len(seen) < len(sent)
    assert seen == sent[: len(seen)]


def test_a_line_that_is_no_event_is_passed_over(path: Path) -> None:
    """It may be cut, or come from another windsock; the terminal goes on, and so does Airflow."""
    lines = [
        b'{"schema": 9, "type": "note"}\n',
        b"{\n",
        to_line(Note(message="one")),
        b'{"schema":',
    ]

    def say(_: bytes, client: json_lines.Connection) -> None:
        for line in lines:
            client.send(line)
        client.hang_up()

    server = json_lines.Server(path, say)
    server.start("odd")
    try:
        assert list(ControlClient(path).attach()) == [Note(message="one")]
        lines[:] = [b'{"connec']
        with pytest.raises(EnvironmentFailure, match="the sync process ended"):
            ControlClient(path).status()
    finally:
        server.stop()


def test_an_unknown_request_is_refused_and_the_connection_stays(
    process: Process, path: Path
) -> None:
    process.answers["status"] = lambda: {"fine": True}
    with json_lines.Client(path, timeout=20) as client:
        lines = client.lines()
        answers = []
        for request in ({"request": "dance"}, {}, {"request": "status"}):
            client.send(json_lines.encode(request))
            answers.append(json.loads(next(lines)))
    assert "dance" in answers[0]["error"]
    assert "error" in answers[1]
    assert answers[2] == {"fine": True}


@pytest.mark.parametrize("line", [b"\xff\xfe{", b"", b"[]", b'{"request": "stat'])
def test_a_malformed_line_is_refused_and_the_connection_stays(
    process: Process, path: Path, line: bytes
) -> None:
    process.answers["status"] = lambda: {"fine": True}
    with json_lines.Client(path, timeout=20) as client:
        client.send(line + b"\n")
        answers = client.lines()
        assert json.loads(next(answers))["error"] == "the line is no JSON object"
        client.send(b'{"request": "status"}\n')
        assert json.loads(next(answers)) == {"fine": True}


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
    attached = listen(ControlClient(path))
    process.server.close()
    assert list(attached) == []
    with pytest.raises(EnvironmentFailure):
        ControlClient(path).status()
