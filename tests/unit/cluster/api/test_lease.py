"""What of a lease needs no cluster; the rest is in tests/contract/lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.lease.conftest import FakeRoom
from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, Refusal
from windsock.cluster.api.lease import Lease, LeaseRenewer, identity
from windsock.errors import EnvironmentFailure


def renewer(room: FakeRoom, notes: list[str]) -> LeaseRenewer:
    lease = Lease(room, client="anna@laptop#1")
    return LeaseRenewer(lease, lost=lambda _: None, note=notes.append)


def test_an_account_that_may_not_use_leases_is_told_once_and_syncs() -> None:
    room, notes = FakeRoom(refuses=FORBIDDEN), list[str]()
    kept = renewer(room, notes)
    kept.take(take_over=False)
    kept.take(take_over=False)
    assert room.creations == 1
    assert not kept.renews
    assert [("leases" in note, "Role" in note) for note in notes] == [(True, True)]
    kept.release()


def test_another_refusal_is_one() -> None:
    with pytest.raises(Refusal):
        renewer(FakeRoom(refuses=500), []).take(take_over=False)


def test_a_lease_that_changes_all_the_time_is_given_up() -> None:
    room = FakeRoom(refuses=CONFLICT)
    with pytest.raises(EnvironmentFailure, match="changes all the time"):
        renewer(room, []).take(take_over=False)
    assert room.creations > 1


def test_an_identity_is_the_same_after_a_restart_and_another_for_another_environment() -> None:
    first = identity(user="anna", host="laptop", state=Path("/a/.windsock"))
    assert first == identity(user="anna", host="laptop", state=Path("/a/.windsock"))
    assert first != identity(user="anna", host="laptop", state=Path("/b/.windsock"))
    assert first.startswith("anna@laptop#")
