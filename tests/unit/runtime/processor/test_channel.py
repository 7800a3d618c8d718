from __future__ import annotations

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
from windsock.json_lines import Client, encode
from windsock.runtime.processor.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = ProcessorState(snapshot=None, awaited=(), files=())
SETTLED = Settled(snapshot="a", seconds=1)
REFERENCES = References(snapshots=("a", "b"))


class Processor:
    """A dag-processor with a channel; its database may be away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pokes = 0
        self.error: Exception | None = None
        requests = {"poke": self._poke, "references": self._references}
        self.channel = Channel(path, greeting=lambda: STATE, requests=requests)
        self.channel.start("channel")

    def _poke(self, _: object) -> None:
        self.pokes += 1

    def _references(self, _: object) -> References:
        if self.error is not None:
            raise self.error
        return REFERENCES


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    made = Processor(tmp_path / "channel.sock")
    yield made
    made.channel.stop()


class Greeted(Client):
    """A client that has read its greeting."""

    def __init__(self, processor: Processor) -> None:
        super().__init__(processor.path, timeout=20)
        self._lines = self.lines()
        assert next(self._lines) == to_line(STATE)

    def ask(self, request: str) -> None:
        self.send(encode({"type": request}))

    def next(self) -> Event | None:
        return from_line(next(self._lines))


def test_each_client_is_greeted_and_gets_every_event(processor: Processor) -> None:
    with Greeted(processor) as first, Greeted(processor) as second:
        processor.channel.broadcast(SETTLED)
        assert first.next() == second.next() == SETTLED


def test_an_answer_goes_to_the_client_that_asked(processor: Processor) -> None:
    with Greeted(processor) as first, Greeted(processor) as second:
        first.ask("poke")
        first.ask("references")
        assert first.next() == REFERENCES
        assert processor.pokes == 1
        processor.channel.broadcast(SETTLED)
        assert second.next() == SETTLED


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"\xff\xfe", b'{"type": "dance"}'])
def test_what_is_no_request_is_refused_and_the_next_one_served(
    processor: Processor, line: bytes
) -> None:
    with Greeted(processor) as client:
        client.send(line + b"\n")
        client.ask("references")
        assert isinstance(client.next(), RequestRefused)
        assert client.next() == REFERENCES


def test_a_request_that_fails_is_refused_and_may_be_made_again(processor: Processor) -> None:
    with Greeted(processor) as client:
        processor.error = RuntimeError("no database")
        client.ask("references")
        assert client.next() == RequestRefused(reason="RuntimeError('no database')")
        processor.error = None
        client.ask("references")
        assert client.next() == REFERENCES
