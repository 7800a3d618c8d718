"""Whose namespace it is while everything in it is removed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.lease.conftest import FakeRoom
from windsock.cluster.api import lease
from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, NOT_FOUND
from windsock.cluster.api.lease import API_VERSION, KIND, NAME, Lease
from windsock.errors import EnvironmentFailure
from windsock.sync.protocol import StoreBusy
from windsock.targets.cluster.namespace_lease import NamespaceLease

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

PATIENCE = 30.0
"""Seconds; what is waited for takes milliseconds."""
SOON = 0.01


class Room(FakeRoom):
    """Tells when the lease is renewed, or refused."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def get(self, version: str, kind: str, name: str) -> Object | None:
        self.asked.release()
        return super().get(version, kind, name)

    def patch(self, item: Object, change: Object) -> Object:
        done = super().patch(item, change)
        self.renewed.release()
        return done

    def holder(self) -> str:
        found = super().get(API_VERSION, KIND, NAME)
        return str(found["spec"]["holderIdentity"]) if found else ""


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.001)
    return Room()


@pytest.fixture
def bob(room: Room) -> Lease:
    return Lease(room, client="bob@desk#2")


def claim(room: FakeRoom, *, take_over: bool = False) -> NamespaceLease:
    return NamespaceLease(room, client="anna@laptop#1", take_over=take_over)


def until_raises(check: Callable[[], None], room: Room) -> None:
    """Look again after each look at the lease, or soon: it is judged a moment after."""
    for _ in range(int(PATIENCE / SOON)):
        check()
        room.asked.acquire(timeout=SOON)


def test_it_is_renewed_as_long_as_the_removal_lasts_and_given_back(room: Room) -> None:
    with claim(room).for_removal() as check:
        for _ in range(3):
            assert room.renewed.acquire(timeout=PATIENCE)
        assert room.holder() == "anna@laptop#1"
        check()
    assert room.holder() == ""


def test_it_is_given_back_after_a_removal_that_failed(room: Room) -> None:
    with pytest.raises(KeyboardInterrupt), claim(room).for_removal():
        raise KeyboardInterrupt
    assert room.holder() == ""


def test_what_somebody_else_syncs_to_is_not_removed_unless_it_is_taken_over(
    room: Room, bob: Lease
) -> None:
    bob.take()
    with pytest.raises(StoreBusy), claim(room).for_removal():
        pytest.fail("it is removed")
    assert room.holder() == "bob@desk#2"
    with claim(room, take_over=True).for_removal():
        assert room.holder() == "anna@laptop#1"


def test_a_removal_stops_when_somebody_takes_it_over_meanwhile(room: Room, bob: Lease) -> None:
    with claim(room).for_removal() as check:
        bob.take(take_over=True)
        with pytest.raises(EnvironmentFailure, match=r"bob@desk.* is theirs"):
            until_raises(check, room)
    assert room.holder() == "bob@desk#2", "it is theirs, and stays so"


@pytest.mark.parametrize("code", [NOT_FOUND, FORBIDDEN])
def test_without_a_namespace_or_the_right_to_use_leases_everything_is_removed_all_the_same(
    code: int,
) -> None:
    with claim(FakeRoom(refuses=code)).for_removal() as check:
        check()


@pytest.mark.parametrize("code", [CONFLICT, 503])
def test_any_other_refusal_is_one(code: int) -> None:
    with pytest.raises(EnvironmentFailure), claim(FakeRoom(refuses=code)).for_removal():
        pytest.fail("it is removed")
