"""How often a target of a cluster takes the sync from somebody else: once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.lease.conftest import FakeRoom
from tests.unit.fakes import FakeSync, KeptConsole, environment
from windsock.cluster.api.failures import FORBIDDEN, Refusal
from windsock.cluster.api.lease import Lease
from windsock.cluster.images import image
from windsock.cluster.manifests import removal
from windsock.config import load
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster import processes
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location
from windsock.targets.plan import Action, PlannedStep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom()


@pytest.fixture
def bob(room: FakeRoom) -> Lease:
    return Lease(room, client="bob@desk#2")


@pytest.fixture
def target(tmp_path: Path, room: FakeRoom) -> ClusterTarget:
    (tmp_path / "dags").mkdir()
    settings = load({"state": "state", "cluster": {"take_over": True}}, project=tmp_path)
    place = Location(target="context", context="lab", namespace="mine")
    made = ClusterTarget(Parts(settings=settings, location=place, variables={}))
    vars(made.parts).update(cluster=room, supervisor=SimpleNamespace(alive=lambda: True))
    return made


def take(target: ClusterTarget) -> None:
    with target.parts.lease.for_change():
        pass


def test_who_takes_it_back_meanwhile_keeps_it(target: ClusterTarget, bob: Lease) -> None:
    bob.take()
    take(target)
    bob.take(take_over=True)
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        take(target)


def test_what_they_have_taken_back_is_not_removed_at_the_end(
    target: ClusterTarget, bob: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "delete_all", None)
    take(target)
    bob.take(take_over=True)
    vars(target.parts).update(supervisor=SimpleNamespace(shutdown=lambda: None))
    console = KeptConsole()
    target.end(console)
    assert "bob@desk" in console.said
    assert "invoke down --take-over" in console.said


def test_what_is_ours_already_takes_it_from_nobody_later(
    target: ClusterTarget, bob: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path / "state", socket=tmp_path / "control.sock").save(tmp_path / "state")
    there = PlannedStep(what="sync", action=Action.NONE)
    monkeypatch.setattr("windsock.targets.cluster.target.planned_processes", lambda *_: there)
    monkeypatch.setattr(image, "wanted", lambda _: None)
    target.parts.applied.save_by_others()
    monkeypatch.setattr(processes, "health", lambda *_: {})
    assert target.running() is not None
    bob.take()
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        take(target)


class Forbidden(FakeRoom):
    """A namespace in which this account may not use leases."""

    def get(self, _version: str, _kind: str, _name: str) -> Any:
        raise Refusal("the cluster refused to show Lease windsock-sync", code=FORBIDDEN)


def test_without_leases_the_store_itself_is_taken_over_once(
    target: ClusterTarget, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vars(target.parts).update(cluster=Forbidden())
    take(target)
    sync = FakeSync(tmp_path_factory.mktemp("s") / "control.sock")
    sync.state = {**sync.state, "busy": "bob@desk syncs here"}
    sync.start()
    try:
        running = environment(tmp_path / "state", socket=sync.path)
        processes.check_sync_is_ours(target.parts, running)
        assert sync.asked == ["status", "take-over"]
        with pytest.raises(EnvironmentFailure, match="bob@desk"):
            processes.check_sync_is_ours(target.parts, running)
    finally:
        sync.stop()
    assert sync.asked == ["status", "take-over", "status"]


def test_a_lease_that_was_taken_over_takes_nothing_from_who_has_it_since(
    target: ClusterTarget, bob: Lease, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bob.take()
    take(target)
    sync = FakeSync(tmp_path_factory.mktemp("s") / "control.sock")
    sync.state = {**sync.state, "busy": "bob@desk has taken the sync over"}
    sync.start()
    try:
        with pytest.raises(EnvironmentFailure, match="bob@desk"):
            processes.check_sync_is_ours(
                target.parts, environment(tmp_path / "state", socket=sync.path)
            )
    finally:
        sync.stop()
    assert sync.asked == ["status"]
