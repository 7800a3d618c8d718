"""Who may write the store of a namespace, and what a cut costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.contract.lease.conftest import FakeRoom
from windsock.cluster.api.lease import ANSWER_SECONDS, Lease
from windsock.sync.protocol import StoreBusy
from windsock.sync_process.store_access import PodStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster

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
def room() -> Room:
    return Room()


@pytest.fixture
def access(room: Room) -> Iterator[PodStore]:
    def start(_: object) -> Any:
        room.done.append("started")

    made = PodStore(
        cast("Cluster", room),
        start,
        client="anna@laptop#1",
        take_over=False,
        lost=lambda _: None,
        note=lambda _: None,
        pause=lambda _: None,
    )
    yield made
    made.close()


def test_a_reconnection_does_not_use_connections_from_before_the_cut(
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
