"""Who syncs: the same cases on a fake and on a real cluster (tests/cluster/test_lease.py)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.lease import (
    API_VERSION,
    DURATION,
    KIND,
    NAME,
    RENEW_SECONDS,
    RETRY_SECONDS,
    Lease,
    LeaseRenewer,
)
from windsock.sync.protocol import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.cluster.api.client import Cluster

MORNING = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
ANNA, BOB = "anna@laptop#1", "bob@desk#2"


class Clock:
    """A clock that only goes on when somebody waits, or is told to."""

    def __init__(self) -> None:
        self.now = MORNING
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> datetime:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.meanwhile()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def anna(room: Cluster, clock: Clock) -> Lease:
    return Lease(room, client=ANNA, clock=clock, pause=clock.pause)


@pytest.fixture
def bob(room: Cluster, clock: Clock) -> Lease:
    return Lease(room, client=BOB, clock=clock, pause=clock.pause)


def spec_of(room: Cluster) -> dict[str, Any]:
    found = room.get(API_VERSION, KIND, NAME)
    assert found is not None
    return dict(found["spec"])


def test_the_first_one_holds_it_and_signs(room: Cluster, anna: Lease) -> None:
    anna.take()
    assert spec_of(room) == {
        "holderIdentity": ANNA,
        "leaseDurationSeconds": DURATION,
        "acquireTime": "2026-03-01T09:30:00.000000Z",
        "renewTime": "2026-03-01T09:30:00.000000Z",
        "leaseTransitions": 0,
    }


def test_another_one_is_told_who_holds_it_since_when_and_what_to_do(
    anna: Lease, bob: Lease, clock: Clock
) -> None:
    anna.take()
    clock.now += timedelta(seconds=DURATION - 1)
    with pytest.raises(StoreBusy, match="anna@laptop syncs here, since") as busy:
        bob.take()
    assert busy.value.holder["since"] == MORNING.timestamp()
    assert "--take-over" in busy.value.hint


def test_a_renewal_tells_the_time_and_not_another_beginning(
    room: Cluster, anna: Lease, bob: Lease, clock: Clock
) -> None:
    anna.take()
    for _ in range(4):
        clock.now += timedelta(seconds=DURATION - 1)
        anna.take()
    with pytest.raises(StoreBusy):
        bob.take()
    assert spec_of(room)["acquireTime"] == "2026-03-01T09:30:00.000000Z"
    assert spec_of(room)["renewTime"] == "2026-03-01T09:30:56.000000Z"
    assert spec_of(room)["leaseTransitions"] == 0


def test_the_same_client_holds_it_again_after_a_crash(
    room: Cluster, anna: Lease, clock: Clock
) -> None:
    anna.take()
    Lease(room, client=ANNA, clock=clock, pause=clock.pause).take()
    assert clock.now == MORNING


def test_one_that_is_not_renewed_is_free(
    room: Cluster, anna: Lease, bob: Lease, clock: Clock
) -> None:
    anna.take()
    clock.now += timedelta(seconds=DURATION + 1)
    bob.take()
    assert spec_of(room)["holderIdentity"] == BOB
    assert spec_of(room)["leaseTransitions"] == 1
    with pytest.raises(StoreBusy, match="bob@desk"):
        anna.take()


def test_a_holder_whose_clock_is_behind_is_not_taken_for_dead(
    room: Cluster, bob: Lease, clock: Clock
) -> None:
    behind = Lease(
        room, client=ANNA, clock=lambda: clock.now - timedelta(hours=1), pause=clock.pause
    )
    behind.take()
    clock.meanwhile = behind.take
    with pytest.raises(StoreBusy, match="anna@laptop"):
        bob.take()


def test_a_holder_whose_renewal_is_late_as_well_is_not_robbed(
    room: Cluster, bob: Lease, clock: Clock
) -> None:
    behind = Lease(
        room, client=ANNA, clock=lambda: clock.now - timedelta(hours=1), pause=clock.pause
    )
    behind.take()

    def renew_late() -> None:
        if clock.now > MORNING + timedelta(seconds=2 * RENEW_SECONDS):
            behind.take()

    clock.meanwhile = renew_late
    with pytest.raises(StoreBusy, match="anna@laptop"):
        bob.take()
    assert spec_of(room)["holderIdentity"] == ANNA


def test_it_can_be_taken_over_and_the_loser_learns_to_whom(anna: Lease, bob: Lease) -> None:
    anna.take()
    bob.take(take_over=True)
    bob.take()
    with pytest.raises(StoreBusy, match="bob@desk"):
        anna.take()


def test_a_released_one_is_gone_and_free(room: Cluster, anna: Lease, bob: Lease) -> None:
    anna.take()
    anna.release()
    assert room.get(API_VERSION, KIND, NAME) is None
    bob.take()
    anna.release()
    assert spec_of(room)["holderIdentity"] == BOB


def test_one_that_somebody_deleted_is_made_again(room: Cluster, anna: Lease) -> None:
    anna.take()
    found = room.get(API_VERSION, KIND, NAME)
    assert found is not None
    room.delete(found)
    anna.take()
    assert spec_of(room)["holderIdentity"] == ANNA


@pytest.mark.parametrize("renewed", [None, "2020-01-01T00:00:00.000000Z"])
def test_what_another_tool_left_is_taken(
    room: Cluster, anna: Lease, clock: Clock, renewed: str | None
) -> None:
    spec: dict[str, Any] = {"holderIdentity": "somebody", "leaseDurationSeconds": 5}
    if renewed:
        spec["renewTime"] = renewed
    room.create({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": NAME}, "spec": spec})
    anna.take()
    assert spec_of(room)["holderIdentity"] == ANNA
    assert clock.now == MORNING + timedelta(seconds=DURATION)


def test_of_many_at_once_one_gets_it(room: Cluster) -> None:
    held: list[str] = []

    def try_it(name: str) -> None:
        try:
            Lease(room, client=name, clock=lambda: MORNING).take()
        except StoreBusy:
            return
        held.append(name)

    threads = [threading.Thread(target=try_it, args=(f"client#{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held == [spec_of(room)["holderIdentity"]]


class Ticks(threading.Event):
    """Lets a renewer renew once for each tick, without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self._tick = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        self.pauses: list[float | None] = []

    def tick(self) -> None:
        self._tick.release()

    def set(self) -> None:
        super().set()
        self.tick()

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        self.waiting.release()
        self._tick.acquire()
        return self.is_set()


def test_a_renewer_renews_it_and_gives_it_back(room: Cluster, anna: Lease, clock: Clock) -> None:
    ticks, lost = Ticks(), list[StoreBusy]()
    renewer = LeaseRenewer(anna, lost=lost.append, note=lambda _: None, stop=ticks)
    assert not renewer.renews
    renewer.take(take_over=False)
    assert renewer.renews
    assert ticks.waiting.acquire(timeout=20)
    clock.now += timedelta(seconds=5)
    ticks.tick()
    assert ticks.waiting.acquire(timeout=20)
    assert spec_of(room)["renewTime"] == "2026-03-01T09:30:05.000000Z"
    renewer.release()
    assert room.get(API_VERSION, KIND, NAME) is None
    assert not renewer.renews
    assert not lost
    assert set(ticks.pauses) == {RENEW_SECONDS}


def test_a_renewer_that_loses_it_says_to_whom_and_leaves_it_alone(
    room: Cluster, anna: Lease, bob: Lease
) -> None:
    ticks, lost, told = Ticks(), list[StoreBusy](), threading.Event()

    def lose(busy: StoreBusy) -> None:
        lost.append(busy)
        told.set()

    renewer = LeaseRenewer(anna, lost=lose, note=lambda _: None, stop=ticks)
    renewer.take(take_over=False)
    bob.take(take_over=True)
    ticks.tick()
    assert told.wait(20)
    assert lost[0].message.startswith("bob@desk ")
    renewer.release()
    assert spec_of(room)["holderIdentity"] == BOB


def test_a_renewer_that_lost_it_renews_it_again_once_it_is_taken_back(
    room: Cluster, anna: Lease, bob: Lease, clock: Clock
) -> None:
    ticks, lost, threads = Ticks(), threading.Event(), set(threading.enumerate())
    renewer = LeaseRenewer(anna, lost=lambda _: lost.set(), note=lambda _: None, stop=ticks)
    renewer.take(take_over=False)
    bob.take(take_over=True)
    assert ticks.waiting.acquire(timeout=20)
    ticks.tick()
    assert lost.wait(20)
    for thread in set(threading.enumerate()) - threads:
        thread.join(20)
    assert not renewer.renews
    renewer.take(take_over=True)
    assert renewer.renews
    assert ticks.waiting.acquire(timeout=20)
    clock.now += timedelta(seconds=5)
    ticks.tick()
    assert ticks.waiting.acquire(timeout=20)
    assert spec_of(room)["renewTime"] == "2026-03-01T09:30:05.000000Z"
    renewer.release()


def test_a_renewer_says_at_once_who_has_just_taken_it(anna: Lease, bob: Lease) -> None:
    renewer = LeaseRenewer(anna, lost=lambda _: None, note=lambda _: None, stop=Ticks())
    assert not renewer.confirm()
    renewer.take(take_over=False)
    assert renewer.confirm()
    bob.take(take_over=True)
    with pytest.raises(StoreBusy, match="bob@desk"):
        renewer.confirm()
    renewer.release()


def test_a_renewer_that_fails_in_any_way_tries_again_sooner(
    room: Cluster, anna: Lease, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks()
    renewer = LeaseRenewer(anna, lost=lambda _: None, note=lambda _: None, stop=ticks)
    renewer.take(take_over=False)
    assert ticks.waiting.acquire(timeout=20)

    def fail() -> None:
        raise RuntimeError("the identity provider does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(anna, "take", fail)
        ticks.tick()
        assert ticks.waiting.acquire(timeout=20)
    assert renewer.renews
    clock.now += timedelta(seconds=6)
    ticks.tick()
    assert ticks.waiting.acquire(timeout=20)
    assert ticks.pauses == [RENEW_SECONDS, RETRY_SECONDS, RENEW_SECONDS]
    assert spec_of(room)["renewTime"] == "2026-03-01T09:30:06.000000Z"
    renewer.release()
