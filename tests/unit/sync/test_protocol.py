from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from windsock.errors import DeadlineExceeded
from windsock.store.wire import MARKER, Decoder, Frame, encode
from windsock.sync import protocol
from windsock.sync.protocol import Link, LinkLost, StoreBusy

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeTransport:
    """An agent whose every byte the test says."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.complaint: str | ValueError = ""
        self._incoming: queue.Queue[bytes] = queue.Queue()
        self._closed = threading.Event()

    def say(self, data: bytes) -> None:
        self._incoming.put(data)

    def answer(self, kind: str, **values: Any) -> None:
        self.say(encode({"type": kind, **values}))

    def frames(self) -> list[Frame]:
        return list(Decoder().feed(bytes(self.written)))

    @property
    def alive(self) -> bool:
        return not self._closed.is_set()

    def read(self, limit: int) -> bytes:
        del limit
        return self._incoming.get()

    def write(self, data: bytes) -> None:
        if self._closed.is_set():
            raise BrokenPipeError
        self.written += data

    def close(self) -> None:
        self._closed.set()
        self._incoming.put(b"")

    def diagnosis(self) -> str:
        if isinstance(self.complaint, ValueError):
            raise self.complaint
        return self.complaint


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def aside() -> list[Frame]:
    return []


@pytest.fixture
def link(transport: FakeTransport, aside: list[Frame]) -> Iterator[Link]:
    link = Link(transport, aside=aside.append, ended=lambda: None)
    yield link
    link.close()


def greet(link: Link, *, timeout: float = 20.0) -> Frame:
    link.hello(client="me", take_over=False)
    return link.welcome(timeout=timeout)


def test_the_agent_is_greeted_and_its_welcome_returned(
    transport: FakeTransport, link: Link
) -> None:
    transport.say(MARKER)
    transport.answer("welcome", tree=None, pid=1)
    assert greet(link).header["pid"] == 1
    assert transport.frames()[0].header == {
        "type": "hello",
        "protocol": 1,
        "client": "me",
        "take_over": False,
    }


def test_a_banner_before_the_marker_is_skipped_however_it_is_cut(
    transport: FakeTransport, link: Link
) -> None:
    for byte in b"Welcome!\n\x00wind" + MARKER + encode({"type": "welcome"}):
        transport.say(bytes([byte]))
    assert greet(link).type == "welcome"


@pytest.mark.parametrize("noise", [b"sh: python3: not found\n", b"\xff" * 70_000])
def test_the_error_names_something_that_is_no_agent(
    transport: FakeTransport, link: Link, noise: bytes
) -> None:
    transport.say(noise)
    transport.close()
    with pytest.raises(LinkLost, match="did not start"):
        greet(link)


def test_the_error_quotes_the_error_stream(transport: FakeTransport, link: Link) -> None:
    transport.complaint = "line 1\nPermission denied"
    transport.close()
    with pytest.raises(LinkLost, match="Permission denied"):
        greet(link)
    assert not link.alive


def test_garbage_after_the_marker_ends_the_conversation(
    transport: FakeTransport, link: Link
) -> None:
    transport.say(MARKER + b"Killed\n" * 10)
    with pytest.raises(LinkLost, match="Killed"):
        greet(link)


def test_a_stream_that_ends_inside_a_frame_is_an_error(
    transport: FakeTransport, link: Link
) -> None:
    transport.say(MARKER + encode({"type": "welcome"})[:-1])
    transport.close()
    with pytest.raises(LinkLost, match="inside a frame"):
        greet(link)


def test_a_busy_store_names_its_holder(transport: FakeTransport, link: Link) -> None:
    transport.say(MARKER)
    transport.answer("busy", holder={"pid": 42, "host": "desk", "since": 0})
    with pytest.raises(StoreBusy, match="process 42 on desk"):
        greet(link)


def test_a_holder_that_signs_with_a_name_is_called_by_it() -> None:
    busy = StoreBusy({"pid": 42, "host": "pod", "since": 0, "client": "anna@laptop#1f"})
    assert busy.message.startswith("anna@laptop syncs here, since ")
    assert "--take-over" in busy.hint


def test_a_silent_agent_is_a_deadline(link: Link) -> None:
    with pytest.raises(DeadlineExceeded, match="welcome"):
        greet(link, timeout=0.01)


def test_what_comes_unasked_goes_aside_and_answers_stay_in_order(
    transport: FakeTransport, link: Link, aside: list[Frame]
) -> None:
    transport.say(MARKER)
    transport.answer("event", message={"type": "parsed"})
    transport.answer("need", batch=1)
    transport.answer("pong")
    transport.answer("applied", batch=1)
    assert link.receive("need", "refused", timeout=20.0).type == "need"
    assert link.receive("applied", timeout=20.0).header["batch"] == 1
    assert [frame.type for frame in aside] == ["event"]


def test_a_farewell_is_the_reason(transport: FakeTransport, link: Link) -> None:
    transport.say(MARKER)
    transport.answer("farewell", code="taken_over", message="somebody else")
    transport.close()
    with pytest.raises(LinkLost, match="somebody else") as lost:
        greet(link)
    assert lost.value.code == "taken_over"
    with pytest.raises(LinkLost):
        link.send({"type": "ping"})


def test_a_silent_agent_is_pinged_and_then_given_up(
    transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PULSE", 0.01), ("PING_AFTER", 0.02), ("DEAD_AFTER", 0.2)):
        monkeypatch.setattr(protocol, name, seconds)
    ended = threading.Event()
    link = Link(transport, aside=lambda _: None, ended=ended.set)
    transport.say(MARKER)
    assert ended.wait(20.0)
    assert "silent" in str(link.lost)
    assert {frame.type for frame in transport.frames()} == {"ping"}
    link.close()


def test_an_agent_that_talks_without_a_pause_hears_of_us_all_the_same(
    transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As during a long first parse: an event for each file. The agent would take us for dead.
    monkeypatch.setattr(protocol, "PULSE", 0.01)
    seconds = itertools.count()
    now = [0.0]
    over = threading.Event()

    def hear(_: Frame) -> None:
        now[0] = float(next(seconds))
        if transport.frames() or now[0] > 1000:
            over.set()
            return
        over.wait(0.001)
        transport.answer("event", message={})

    link = Link(transport, aside=hear, ended=over.set, clock=lambda: now[0])
    transport.say(MARKER)
    transport.answer("event", message={})
    assert over.wait(60.0)
    assert {frame.type for frame in transport.frames()} == {"ping"}
    link.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_stream_that_cannot_be_read_does_not_keep_a_dead_conversation_alive(
    transport: FakeTransport,
) -> None:
    ended = threading.Event()
    transport.complaint = ValueError("half of an answer")
    link = Link(transport, aside=lambda _: None, ended=ended.set)
    transport.say(MARKER)
    transport.close()
    assert ended.wait(20.0)
    assert not link.alive
    with pytest.raises(LinkLost, match="the stream ended"):
        link.receive("welcome", timeout=20.0)
    link.close()


def test_a_malformed_message_ends_the_conversation_with_an_error(
    transport: FakeTransport, link: Link
) -> None:
    transport.say(MARKER)
    transport.answer("farewell", code="taken_over")
    with pytest.raises(LinkLost, match="malformed: KeyError"):
        greet(link)
