"""An agent that froze, was left, and goes on after another one has taken the store: no harm done.

As in a pod, nobody ends it when its client hangs up. It has lost the lock by then; whatever it was
about to do with the store, it does right after it wakes.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.contract.sync.rig import (
    Rig,
    freezing_transport,
    hurried_transport,
    tree_id_of,
    wait_until,
)
from tests.contract.sync.test_faults import seen_by_a_reader
from tests.contract.sync.test_processor import listening, saves
from windsock import events
from windsock.sync import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windsock.sync.transport import Transport

HURRY = 20
"""Another agent waits five seconds for a frozen one, which is a quarter of one then."""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FreezingRig]:
    for name, seconds in (("PULSE", 0.05), ("PING_AFTER", 0.2), ("DEAD_AFTER", 1.0)):
        monkeypatch.setattr(protocol, name, seconds)
    rig = FreezingRig(tmp_path)
    try:
        yield rig
    finally:
        for process in rig.frozen():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class FreezingRig(Rig):
    """A rig whose next agent freezes, and whose further ones do not.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "process")
        self._told = folder / "frozen-"
        self._freezing: list[Callable[[], Transport]] = []

    def freeze(self, *, count: int, after: str = "") -> None:
        """Let the next agent freeze; see `freezing_transport`."""
        options, told = self.options, str(self._told)
        self._freezing.append(
            lambda: freezing_transport(options, count=count, told=told, after=after)
        )

    def connect(self) -> Transport:
        if self._freezing:
            transport = self._freezing.pop()()
        else:
            transport = hurried_transport(self.options, times=HURRY)
        self.transports.append(transport)
        return transport

    def frozen(self) -> list[int]:
        """The agent that froze, if it has."""
        return [
            int(path.name.removeprefix(self._told.name))
            for path in self._told.parent.glob(f"{self._told.name}*")
        ]

    def thaw(self) -> None:
        """Let it go on, and wait for its end."""
        [process] = self.frozen()
        end = os.pidfd_open(process)
        try:
            os.kill(process, signal.SIGCONT)
            wait_until(lambda: not _runs(process), "it has ended")
        finally:
            os.close(end)

    @contextmanager
    def watched(self) -> Iterator[set[str | None]]:
        """What is current meanwhile: always whole, and always there once it was."""
        seen: set[str | None] = set()
        wrong: list[BaseException] = []
        stop = threading.Event()

        def read() -> None:
            try:
                while not stop.wait(0.001):
                    seen.add(seen_by_a_reader(self.store))
            except BaseException as error:  # noqa: BLE001 - raised again below
                wrong.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield seen
        finally:
            stop.set()
            reader.join()
        if wrong:
            raise wrong[0]

    def assert_whole(self) -> None:
        """Each snapshot that the store tells of holds what it should."""
        for manifest in (self.store / "manifests").iterdir():
            assert tree_id_of(self.store / "snapshots" / manifest.stem) == manifest.stem


def _runs(process: int) -> bool:
    """Whether it runs; nobody may have waited for it yet."""
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - not a path of ours
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("count", range(36))
def test_an_agent_that_froze_at_any_moment_of_its_start_or_of_a_batch(
    rig: FreezingRig, count: int
) -> None:
    rig.write("a.py", "one")
    rig.write("sub/b.py", "two")
    with rig.running() as session:
        first = session.request_scan()
    rig.write("a.py", "changed")
    (rig.root / "sub/b.py").unlink()
    rig.write("new/c.py", "three")
    rig.freeze(count=count)
    with rig.watched() as seen, rig.running() as session:
        saved = {first, session.request_scan()}
        for number in itertools.count():
            if rig.frozen():
                break
            rig.write("a.py", f"changed {number}")
            saved.add(session.request_scan())
        wait_until(lambda: rig.of(events.Disconnected), "it is left")
        rig.write("a.py", "changed again")
        saved.add(session.request_scan())
        rig.thaw()
        rig.assert_equal()
        rig.write("a.py", "and again")
        saved.add(session.request_scan())
    rig.assert_equal()
    rig.assert_whole()
    assert seen <= saved


@pytest.mark.parametrize("count", range(4))
def test_an_agent_that_froze_while_it_removed_a_snapshot_that_is_current_now(
    rig: FreezingRig, count: int
) -> None:
    trees = saves(rig, 4)
    usual = rig.options
    rig.options = usual._replace(keep=1, collection_pause=0.05)
    rig.freeze(count=count, after="trash-")
    with listening(rig) as processor, rig.running() as session:
        processor.references = []
        session.request_scan()
        wait_until(rig.frozen, "it has frozen")
        rig.options = usual
        wait_until(lambda: rig.of(events.Disconnected), "it is left")
        with rig.watched():
            for number, tree in enumerate(trees[:3]):
                rig.write("a.py", f"{number:03}" * 5000)
                assert session.request_scan() == tree
        rig.thaw()
        rig.assert_equal()
        rig.assert_whole()
        rig.write("a.py", "new")
        session.request_scan()
    rig.assert_equal()
    rig.assert_whole()
