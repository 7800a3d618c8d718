"""Who may write the store of a namespace, and what a cut costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.lease.conftest import FakeRoom
from windsock.cluster.access import streams
from windsock.cluster.api import client
from windsock.cluster.api.lease import ANSWER_SECONDS, Lease
from windsock.store.agent import Options
from windsock.sync.protocol import StoreBusy
from windsock.sync_process.settings import PodSettings
from windsock.sync_process.store_access import PodStore

if TYPE_CHECKING:
    from collections.abc import Iterator

BOB = "bob@desk#2"


class Room(FakeRoom):
    """A namespace that notes how patiently it is asked, and when connections are given up."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.patience: list[float] = []
        self.connection: Any = SimpleNamespace(drop_idle=lambda: self.done.append("dropped"))

    def within(self, seconds: float) -> Room:
        self.patience.append(seconds)
        return self


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    made = Room()
    monkeypatch.setattr(client.Cluster, "connect", lambda **_: made)

    def start(_room: Room, _options: Options) -> Any:
        made.done.append("started")

    monkeypatch.setattr(streams, "exec_transport", start)
    return made


@pytest.fixture
def access(room: Room) -> Iterator[PodStore]:
    del room  # It must be there first.
    made = PodStore(
        PodSettings(context="lab", namespace="mine", client="anna@laptop#1"),
        Options(store="/store"),
        take_over=False,
        lost=lambda _: None,
        note=lambda _: None,
        pause=lambda _: None,
    )
    yield made
    made.close()


def test_a_reconnection_waits_for_nothing_that_the_cut_has_left(
    room: Room, access: PodStore
) -> None:
    access.connect()
    access.connect()
    assert room.done == ["dropped", "started"] * 2
    assert room.patience == [ANSWER_SECONDS]


def test_a_store_is_not_taken_back_from_who_has_just_taken_the_lease(
    room: Room, access: PodStore
) -> None:
    access.connect()
    assert access.has_lease()
    Lease(room, client=BOB).take(take_over=True)
    with pytest.raises(StoreBusy, match="bob@desk"):
        access.has_lease()
