"""An environment whose kind cluster is gone, or is not ours to delete."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.kubectl import put_kubectl
from tests.unit.fakes import KeptConsole
from windsock.cluster.api.failures import ClusterUnreachable
from windsock.cluster.manifests import render as manifests
from windsock.config import Settings
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.secrets import Secrets
from windsock.model import ENVIRONMENT_FILE
from windsock.sync.protocol import StoreBusy
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget, delete_cluster
from windsock.targets.location import Location
from windsock.targets.plan import run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windsock.errors import WindsockError


OBJECTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": manifests.SETTINGS}}
]


class FakeCluster:
    """A cluster that answers, or does not."""

    def __init__(self) -> None:
        self.failure: WindsockError | None = None

    def get(self, *_: str) -> Any:
        assert self.failure is not None
        raise self.failure

    def version(self) -> str:
        return "1.34"

    def served(self, _: Any) -> set[Any]:
        return set()


class FakeKind:
    """A kind cluster, and what was asked of it."""

    name = "windsock"

    def __init__(self) -> None:
        self.makes_it = False
        self.refusal: WindsockError | None = None
        self.there = True
        self.deleted: list[str] = []

    def ensure(self, _: Callable[[str], None]) -> bool:
        return self.makes_it

    def deletable(self, *, namespace: str) -> bool:
        del namespace
        if self.refusal is not None:
            raise self.refusal
        return self.there

    def delete(self, *, namespace: str) -> None:
        self.deleted.append(namespace)


class FakeLease:
    def __init__(self) -> None:
        self.busy: StoreBusy | None = None
        self.taken = False

    @contextlib.contextmanager
    def for_removal(self) -> Iterator[Callable[[], None]]:
        if self.busy is not None:
            raise self.busy
        self.taken = True
        yield lambda: None


class Fake:
    """A part of a target that records its verbs."""

    def __init__(self) -> None:
        self.verbs: list[str] = []

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def record(*_: Any, **__: Any) -> Any:
            self.verbs.append(verb)
            return True

        return record


class Rig:
    """A target that is up on this machine, and whose cluster is a fake."""

    def __init__(self, project: Path, target: str = "kind") -> None:
        (project / "dags").mkdir()
        self.state = project / ".windsock"
        Secrets.ensure(self.state / "secrets")
        (self.state / ENVIRONMENT_FILE).write_text("{}")
        (project / "kube" / "overlays" / target).mkdir(parents=True)
        self.cluster, self.kind = FakeCluster(), FakeKind()
        self.lease, self.console = FakeLease(), KeptConsole()
        self.supervisor, self.registry, self.images = Fake(), Fake(), Fake()
        place = Location(target=target, context="kind-windsock", namespace="mine")
        parts = Parts(settings=Settings(project=project), location=place, variables={})
        self.target = ClusterTarget(parts)
        vars(parts).update(
            cluster=self.cluster,
            kind=self.kind,
            lease=self.lease,
            supervisor=self.supervisor,
            registry=self.registry,
            images=self.images,
            objects=lambda: OBJECTS,
        )
        parts.applied.save(OBJECTS)

    @property
    def stopped(self) -> bool:
        """Whether what ran on this machine was stopped."""
        described = (self.state / ENVIRONMENT_FILE).exists()
        assert described == ("shutdown" not in self.supervisor.verbs)
        return not described


GONE = (
    ClusterUnreachable("the cluster does not answer"),
    ConfigurationError("there is no context 'kind-windsock'"),
)


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_an_environment_whose_kind_cluster_is_gone_is_not_up(
    tmp_path: Path, error: WindsockError
) -> None:
    rig = Rig(tmp_path)
    rig.cluster.failure = error
    assert rig.target.running() is None
    assert "cluster" not in vars(rig.target.parts)  # The next one has another address.
    assert not rig.stopped


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_cluster_that_windsock_cannot_make_must_answer(
    tmp_path: Path, error: WindsockError
) -> None:
    rig = Rig(tmp_path, target="context")
    rig.cluster.failure = error
    with pytest.raises(type(error)):
        rig.target.running()


@pytest.mark.parametrize("made", [True, False])
def test_what_talks_to_a_cluster_that_is_gone_is_stopped_when_another_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    put_kubectl(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    rig = Rig(tmp_path)
    rig.kind.makes_it = made
    run_steps(rig.target.prepare(), rig.console)
    assert rig.stopped == made


def test_a_cluster_is_deleted_with_its_registry_and_what_runs_here(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    delete_cluster(rig.target.parts, rig.console)
    assert rig.lease.taken
    assert rig.kind.deleted == ["mine"]
    assert rig.registry.verbs == ["remove"]
    assert rig.stopped


def test_what_a_cluster_that_is_gone_has_left_is_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.kind.there = False
    delete_cluster(rig.target.parts, rig.console)
    assert not rig.lease.taken
    assert rig.registry.verbs == ["remove"]
    assert rig.stopped


def test_a_cluster_that_is_not_ours_stays_and_so_does_all_that_runs(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.kind.refusal = ConfigurationError("windsock did not make the kind cluster windsock")
    with pytest.raises(ConfigurationError, match="did not make"):
        delete_cluster(rig.target.parts, rig.console)
    assert not rig.kind.deleted
    assert not rig.registry.verbs
    assert not rig.stopped


def test_a_cluster_to_which_somebody_else_syncs_stays(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.lease.busy = StoreBusy({"client": "bob@desk#2", "since": 0})
    with pytest.raises(EnvironmentFailure, match="bob@desk syncs here") as caught:
        delete_cluster(rig.target.parts, rig.console)
    assert "--take-over" in caught.value.hint
    assert not rig.kind.deleted
    assert not rig.stopped
