"""How often a target of a cluster takes the sync from somebody else: once."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contract.lease.conftest import FakeRoom
from tests.unit.fakes import FakeSync, KeptConsole, environment
from tests.unit.targets.health import answering
from windsock.airflow.health import HEALTH_NAMES
from windsock.cluster.api.failures import FORBIDDEN, Refusal
from windsock.cluster.api.lease import Lease
from windsock.config import load
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster import processes
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location

ROOT = Path(__file__).parents[3]


@pytest.fixture
def room() -> FakeRoom:
    return FakeRoom()


@pytest.fixture
def bob(room: FakeRoom) -> Lease:
    return Lease(room, client="bob@desk#2")


@pytest.fixture
def target(tmp_path: Path, room: FakeRoom) -> ClusterTarget:
    (tmp_path / "dags").mkdir()
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
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


@pytest.mark.parametrize("ours_before", [True, False])
def test_what_others_have_is_not_removed_at_the_end(
    target: ClusterTarget, bob: Lease, *, ours_before: bool
) -> None:
    if ours_before:
        take(target)
    bob.take(take_over=True)
    vars(target.parts).update(supervisor=SimpleNamespace(shutdown=lambda: None))
    console = KeptConsole()
    target.end(console)
    assert "bob@desk" in console.said
    assert "invoke down --take-over" in console.said


def test_what_is_ours_already_takes_it_from_nobody_later(
    target: ClusterTarget, bob: Lease, sync: FakeSync, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    environment(state, socket=sync.path).save(state)
    target.parts.applied.save_by_others()
    for program in processes.programs(target.parts):
        file = state / program.description_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    running = {name: SimpleNamespace(running=True) for name in processes.NAMES}
    supervisor = SimpleNamespace(alive=lambda: True, states=lambda: running)
    vars(target.parts).update(supervisor=supervisor, loopback=answering(*HEALTH_NAMES))
    assert target.running() is not None
    bob.take()
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        take(target)


def test_a_rebuild_takes_it_from_nobody(target: ClusterTarget, room: FakeRoom, bob: Lease) -> None:
    rebuilt = target.for_rebuild()
    vars(rebuilt.parts).update(cluster=room)
    bob.take()
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        take(rebuilt)


class Forbidden(FakeRoom):
    """A namespace in which this account may not use leases."""

    def get(self, _version: str, _kind: str, _name: str) -> Any:
        raise Refusal("the cluster refused to show Lease windsock-sync", code=FORBIDDEN)


def test_without_leases_the_store_itself_is_taken_over_once(
    target: ClusterTarget, sync: FakeSync, tmp_path: Path
) -> None:
    vars(target.parts).update(cluster=Forbidden())
    take(target)
    sync.state = {**sync.state, "busy": "bob@desk syncs here"}
    running = environment(tmp_path / "state", socket=sync.path)
    processes.check_sync_is_ours(target.parts, running)
    assert sync.asked == ["status", "take-over"]
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        processes.check_sync_is_ours(target.parts, running)
    assert sync.asked == ["status", "take-over", "status"]


def test_a_lease_that_was_taken_over_takes_nothing_from_who_has_it_since(
    target: ClusterTarget, bob: Lease, sync: FakeSync, tmp_path: Path
) -> None:
    bob.take()
    take(target)
    sync.state = {**sync.state, "busy": "bob@desk has taken the sync over"}
    running = environment(tmp_path / "state", socket=sync.path)
    with pytest.raises(EnvironmentFailure, match="bob@desk"):
        processes.check_sync_is_ours(target.parts, running)
    assert sync.asked == ["status"]
