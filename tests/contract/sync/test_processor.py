"""The agent and the dag-processor: pokes, messages, and what may be collected."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import shutil
import socket
import threading
from typing import TYPE_CHECKING, Any

from tests.contract.sync.rig import DEADLINE, MemoryTransport, Rig, wait_until
from windsock import events
from windsock.runtime.processor.channel import Channel
from windsock.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from windsock.sync.transport import Transport


class Processor:
    """Stands for the dag-processor: listens, keeps what comes, says what it is told to."""

    def __init__(self, path: Path) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.references: list[str] | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._path = path
        self._peers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            with contextlib.suppress(OSError, ValueError), peer.makefile("r") as lines:
                for line in lines:
                    message = json.loads(line)
                    if message["type"] == "references" and self.references is not None:
                        self.say({"type": "references", "snapshots": self.references})
                    self.heard.put(message)

    def say(self, message: object) -> None:
        self.say_raw(json.dumps(message).encode() + b"\n")

    def say_raw(self, data: bytes) -> None:
        self._peers[-1].sendall(data)

    def next(self) -> dict[str, Any]:
        return self.heard.get(timeout=DEADLINE)

    def close(self) -> None:
        self._path.unlink()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        self._thread.join()


@contextlib.contextmanager
def listening(rig: Rig) -> Iterator[Processor]:
    processor = Processor(rig.socket)
    try:
        yield processor
    finally:
        processor.close()


def test_each_snapshot_pokes_the_processor(rig: Rig) -> None:
    rig.write("a.py", "one")
    with listening(rig) as processor, rig.running() as session:
        first = session.request_scan()
        assert processor.next() == {"type": "poke", "snapshot": first}
        rig.write("a.py", "two")
        second = session.request_scan()
        assert processor.next() == {"type": "poke", "snapshot": second}


def test_a_processor_that_comes_later_is_poked_then_and_again_when_it_comes_back(rig: Rig) -> None:
    rig.write("a.py", "one")
    with rig.running() as session:
        tree = session.request_scan()
        with listening(rig) as processor:
            assert processor.next() == {"type": "poke", "snapshot": tree}
        assert not rig.wait_for(events.ProcessorConnection, count=2).connected
        with listening(rig) as processor:
            assert processor.next() == {"type": "poke", "snapshot": tree}
            assert rig.wait_for(events.ProcessorConnection, count=3).connected
    told = [event.connected for event in rig.of(events.ProcessorConnection)]
    assert told[:3] == [True, False, True]


def parsed(error: str) -> events.Parsed:
    return events.Parsed(
        snapshot="x", file="é😀.py", dags={}, errors={"é😀.py": error}, seconds=0.19
    )


def test_an_event_of_the_processor_arrives_as_it_was_sent(rig: Rig) -> None:
    sent = parsed("Traceback\n…")
    with listening(rig) as processor, rig.running() as session:
        session.request_scan()
        processor.next()
        processor.say_raw(events.to_line(sent))
        assert rig.wait_for(events.Parsed) == sent
        line = events.to_line(events.Settled(snapshot="x", seconds=1))
        processor.say_raw(b'no json\n{"schema": 2, "type": "settled"}\n' + line[:9])
        processor.say_raw(line[9:])
        assert rig.wait_for(events.Settled).snapshot == "x"


def test_what_the_channel_sends_is_what_the_session_reports(rig: Rig) -> None:
    """The dag-processor's own channel, the agent and the session: no record changes on its way."""
    pokes: queue.Queue[None] = queue.Queue()
    state = events.ProcessorState(snapshot=None, awaited=("a.py",), files=(parsed(""),))
    channel = Channel(
        rig.socket, greeting=lambda: state, requests={"poke": lambda _: pokes.put(None)}
    )
    channel.start("channel")
    sent: list[events.Event] = [
        events.Parsing(snapshot="x", files=("é😀.py",)),
        parsed("Traceback\n…"),
        events.Settled(snapshot="x", seconds=0.5),
    ]
    try:
        with rig.running() as session:
            session.request_scan()
            pokes.get(timeout=DEADLINE)
            for event in sent:
                channel.broadcast(event)
            rig.wait_for(events.Settled)
    finally:
        channel.stop()
    told = [event for event in rig.events if isinstance(event, (type(state), *map(type, sent)))]
    assert told == [state, *sent]


def test_a_long_event_arrives_whole(rig: Rig) -> None:
    sent = parsed("x" * 3_000_000)
    with listening(rig) as processor, rig.running() as session:
        session.request_scan()
        processor.next()
        processor.say_raw(events.to_line(sent))
        assert rig.wait_for(events.Parsed) == sent


def saves(rig: Rig, count: int) -> list[str]:
    """Make so many snapshots and age them; returns their ids, the oldest first."""
    trees = []
    rig.write("a.py", "000" * 5000)  # Before the session: an empty folder is a snapshot too.
    with rig.running() as session:
        for number in range(count):
            rig.write("a.py", f"{number:03}" * 5000)
            trees.append(session.request_scan())
    for age, tree in enumerate(reversed(trees)):
        stamp = 2_000_000_000 - 1000 * age - 1_000_000_000
        os.utime(rig.store / "manifests" / f"{tree}.json", (stamp, stamp))
    return trees


def kept(rig: Rig) -> set[str]:
    """The snapshots that have, or still have, a folder or a manifest."""
    folders = {path.name for path in (rig.store / "snapshots").iterdir()}
    return folders | {path.stem for path in (rig.store / "manifests").iterdir()}


def test_old_snapshots_that_nobody_refers_to_are_collected(rig: Rig) -> None:
    trees = saves(rig, 6)
    cached = rig.store / "pycache" / str(rig.store).lstrip("/") / "snapshots" / trees[0]
    cached.mkdir(parents=True)
    rig.options = rig.options._replace(keep=2, collection_pause=0.05)
    with listening(rig) as processor, rig.running() as session:
        processor.references = [trees[1]]
        session.request_scan()
        wait_until(lambda: kept(rig) == {trees[1], trees[4], trees[5]}, "collection")
        wait_until(lambda: not cached.exists(), "its bytecode goes too")
        assert rig.current.readlink().name == trees[5]
    rig.assert_equal()


def test_nothing_is_collected_while_the_processor_cannot_be_asked(rig: Rig) -> None:
    trees = saves(rig, 4)
    rig.options = rig.options._replace(keep=1, collection_pause=0.05)
    with rig.running() as session:
        session.request_scan()
        with listening(rig) as processor:  # it listens, but never answers
            while processor.next()["type"] != "references":
                pass
            while processor.next()["type"] != "references":
                pass
        assert kept(rig) == set(trees)


def test_young_snapshots_stay(rig: Rig) -> None:
    rig.options = rig.options._replace(keep=1, collection_pause=0.05)
    with listening(rig) as processor, rig.running() as session:
        processor.references = []
        trees = set()
        for number in range(4):
            rig.write("a.py", str(number))
            trees.add(session.request_scan())
        asked = 0
        while asked < 3:
            asked += processor.next()["type"] == "references"
        assert kept(rig) >= trees  # A save may also have been seen half written.


def test_a_store_that_is_too_large_gives_up_its_oldest_snapshots(rig: Rig) -> None:
    trees = saves(rig, 5)  # 15 kB each, 16 kB on disk
    rig.options = rig.options._replace(maximum_bytes=40_000, collection_pause=0.05)
    with listening(rig) as processor, rig.running() as session:
        processor.references = [trees[0]]
        session.request_scan()
        wait_until(lambda: kept(rig) == {trees[0], trees[4]}, "collection by size")


def test_a_snapshot_that_becomes_current_again_counts_as_new(rig: Rig) -> None:
    trees = saves(rig, 3)
    rig.options = rig.options._replace(keep=1, collection_pause=0.05)
    with listening(rig) as processor, rig.running() as session:
        rig.write("a.py", "000" * 5000)
        assert session.request_scan() == trees[0]
        rig.write("a.py", "new")
        last = session.request_scan()
        processor.references = []
        wait_until(lambda: kept(rig) == {trees[0], last}, "only what is old is collected")


def test_a_deleted_current_snapshot_is_sent_again(rig: Rig) -> None:
    rig.write("a.py", "one")
    rig.write("b.py", "two")
    with rig.running() as session:
        session.request_scan()
        shutil.rmtree(rig.current.resolve())
        rig.write("a.py", "three")
        session.request_scan()
        rig.assert_equal()


def test_a_disk_that_old_snapshots_fill_is_cleared_for_the_next_save(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "memory")
    trees = saves(rig, 5)  # fewer than are kept, and less than a store may take
    small = [True]

    def write(descriptor: int, data: bytes) -> int:
        if small[0] and len(list((rig.store / "snapshots").iterdir())) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    def connect() -> Transport:
        transport = MemoryTransport(rig.options, store=Store(rig.options.store, write=write))
        rig.transports.append(transport)
        return transport

    with rig.running(connect=connect):
        rig.write("a.py", "a save that does not fit")
        refused = rig.wait_for(events.Refused)
        assert refused.code == "no_space"
        assert kept(rig) >= set(trees)  # nobody can say yet what is needed
        with listening(rig) as processor:
            processor.references = [trees[1]]
            rig.wait_equal()
            wait_until(
                lambda: kept(rig) == {trees[1], trees[4], rig.current.readlink().name},
                "only what is needed and what was current is left",
            )
