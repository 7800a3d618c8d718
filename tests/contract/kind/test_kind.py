"""Clusters of kind, made and removed: the same cases on a stand-in for kind and on the real one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tests.contract.kind.conftest import UNSTARTABLE, Machine, image_archive
from windsock.cluster import ownership
from windsock.cluster.api import kubeconfig
from windsock.cluster.api.client import MANAGED, Cluster
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAB = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "lab", "cluster": {"server": "https://lab.example.com"}}],
    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "anna"}}],
    "users": [{"name": "anna", "user": {"token": "secret"}}],
    "current-context": "lab",
}
"""A kubeconfig of a user who works on another cluster."""

PATIENCE = 120.0


def silent(_: str) -> None:
    """Take progress and say nothing."""


def current(path: Path) -> str:
    return str(yaml.safe_load(path.read_text()).get("current-context") or "")


def connect(here: Machine, namespace: str = ownership.NAMESPACE) -> Cluster:
    return Cluster.connect(
        context=f"kind-{here.name}", namespace=namespace, kubeconfig=str(here.kubeconfig)
    )


def create_by_hand(here: Machine) -> None:
    here.by_hand("create", "cluster", "--name", here.name, "--wait", "5m")


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)


# --- making one -----------------------------------------------------------------------------------


def test_a_cluster_is_made_once_and_answers(here: Machine) -> None:
    said: list[str] = []
    assert not here.kind().exists()
    assert here.kind().ensure(said.append)
    assert any("Preparing nodes" in line for line in said)
    assert here.kind().exists()
    assert ownership.is_marked(connect(here))
    assert not here.kind().ensure(silent)


def test_a_kubeconfig_that_did_not_exist_leads_to_the_cluster(here: Machine) -> None:
    here.kind().ensure(silent)
    assert kubeconfig.contexts(str(here.kubeconfig)) == [f"kind-{here.name}"]
    assert current(here.kubeconfig) == f"kind-{here.name}"


@pytest.mark.parametrize("before", ["lab", ""])
def test_the_current_context_stays_what_it_was(here: Machine, before: str) -> None:
    here.kubeconfig.write_text(yaml.safe_dump({**LAB, "current-context": before}))
    here.kind().ensure(silent)
    assert kubeconfig.contexts(str(here.kubeconfig)) == ["lab", f"kind-{here.name}"]
    assert current(here.kubeconfig) == before
    assert connect(here).version()


def test_of_several_kubeconfigs_the_first_that_exists_gets_the_entry(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second").write_text(yaml.safe_dump(LAB))
    (tmp_path / "third").write_text(yaml.safe_dump({"current-context": "lab"}))
    several = os.pathsep.join(["first", "second", "third"])
    here.kind(kubeconfig=several).ensure(silent)
    assert not (tmp_path / "first").exists()
    assert kubeconfig.contexts("second") == ["lab", f"kind-{here.name}"]
    assert current(tmp_path / "second") == "lab"
    here.kind(kubeconfig=several).delete()
    assert kubeconfig.contexts(several) == ["lab"]


def test_a_lost_entry_comes_back_and_nothing_else_changes(here: Machine) -> None:
    here.kind().ensure(silent)
    here.kubeconfig.write_text(yaml.safe_dump(LAB))
    assert not here.kind().ensure(silent)
    assert connect(here).version()
    assert current(here.kubeconfig) == "lab"


def test_an_entry_that_leads_nowhere_is_made_anew(here: Machine) -> None:
    here.kind().ensure(silent)
    found = yaml.safe_load(here.kubeconfig.read_text())
    found["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    here.kubeconfig.write_text(yaml.safe_dump(found))
    assert not here.kind().ensure(silent)
    assert connect(here).version()


def test_a_kubeconfig_that_has_the_entry_is_not_touched(here: Machine) -> None:
    here.kind().ensure(silent)
    before = here.kubeconfig.stat().st_mtime_ns
    assert not here.kind().ensure(silent)
    assert here.kubeconfig.stat().st_mtime_ns == before


def test_one_that_other_hands_deleted_is_made_anew(here: Machine) -> None:
    here.kind().ensure(silent)
    here.by_hand("delete", "cluster", "--name", here.name)
    assert here.kind().ensure(silent)
    assert ownership.is_marked(connect(here))


def test_a_creation_that_fails_is_removed_and_told(here: Machine, tmp_path: Path) -> None:
    here.kubeconfig.write_text(yaml.safe_dump(LAB))
    here.docker_load(image_archive(tmp_path / "unstartable.tar", UNSTARTABLE))
    config = tmp_path / "broken.yaml"
    node = {"role": "control-plane", "image": UNSTARTABLE}
    config.write_text(
        yaml.safe_dump({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]})
    )
    with pytest.raises(EnvironmentFailure, match="`kind create cluster` failed") as caught:
        here.kind(config=config).ensure(silent)
    assert "docker run" in caught.value.hint
    assert not here.kind().exists()
    assert kubeconfig.contexts(str(here.kubeconfig)) == ["lab"]
    assert current(here.kubeconfig) == "lab"


def test_a_creation_that_is_interrupted_is_removed(here: Machine) -> None:
    here.kubeconfig.write_text(yaml.safe_dump(LAB))
    here.interruptible()
    before = set(psutil.Process().children())

    def interrupt(line: str) -> None:
        if "Preparing nodes" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here.kind().ensure(interrupt)
    assert set(psutil.Process().children()) <= before
    assert not here.kind().exists()
    assert current(here.kubeconfig) == "lab"


# --- images ---------------------------------------------------------------------------------------


def test_an_image_gets_to_the_nodes_as_an_archive(here: Machine) -> None:
    here.kind().ensure(silent)
    image = "windsock-contract-archived:1"

    def save(name: str, archive: Path) -> None:
        image_archive(archive, name)

    here.kind().load([image], save=save, progress=silent)
    eventually(lambda: image in connect(here).node_images(), "the node has it")


# --- whose it is ----------------------------------------------------------------------------------


def test_one_that_windsock_made_is_deleted_with_its_entry(here: Machine) -> None:
    here.kubeconfig.write_text(yaml.safe_dump(LAB))
    here.kind().ensure(silent)
    assert here.kind().deletable()
    here.kind().delete()
    assert not here.kind().exists()
    assert not here.kind().deletable()
    assert kubeconfig.contexts(str(here.kubeconfig)) == ["lab"]
    assert current(here.kubeconfig) == "lab"
    here.kind().delete()


def test_one_that_others_made_is_used_but_not_deleted(here: Machine) -> None:
    create_by_hand(here)
    assert not here.kind().ensure(silent)
    with pytest.raises(ConfigurationError, match="windsock did not make the kind cluster") as no:
        here.kind().delete()
    assert f"kind delete cluster --name {here.name}" in no.value.hint
    assert here.kind().exists()
    assert connect(here).version()


def test_one_that_holds_other_environments_is_not_deleted(here: Machine) -> None:
    here.kind().ensure(silent)
    for name in ("first", "second"):
        connect(here, name).ensure_namespace()
    with pytest.raises(ConfigurationError, match=r"other environments, in second\n") as no:
        here.kind().delete(namespace="first")
    assert "invoke down --volumes" in no.value.hint
    assert here.kind().exists()
    second = connect(here, "second")
    namespace = second.get("v1", "Namespace", "second")
    assert namespace is not None
    second.delete({"apiVersion": "v1", "kind": "Namespace", **namespace})
    eventually(lambda: second.get("v1", "Namespace", "second") is None, "it is gone")
    here.kind().delete(namespace="first")
    assert not here.kind().exists()


def test_volumes_in_a_namespace_that_others_made_are_an_environment(here: Machine) -> None:
    here.kind().ensure(silent)
    team = connect(here, "team")
    team.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec}
    team.create({**claim, "metadata": {"name": "theirs"}})
    assert ownership.environments(team) == []
    team.create({**claim, "metadata": {"name": "dags", "labels": dict(MANAGED)}})
    assert ownership.environments(team) == ["team"]


def test_one_that_somebody_makes_at_the_same_moment_is_used(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = here.kind()
    monkeypatch.setattr(kind, "exists", lambda: False)  # As it was when we looked.
    create_by_hand(here)
    assert not kind.ensure(silent)
    assert here.kind().exists()
    assert connect(here).version()


def test_one_that_somebody_has_not_made_ready_yet_is_left_to_them(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = here.kind()
    monkeypatch.setattr(kind, "exists", lambda: False)  # As it was when we looked.
    here.cut_off()
    with pytest.raises(EnvironmentFailure, match="not complete") as caught:
        kind.ensure(silent)
    assert "try again when that is done" in caught.value.hint
    assert here.kind().exists()


def test_one_whose_creation_was_cut_off_is_told_with_what_to_do(here: Machine) -> None:
    here.cut_off()
    for verb in (lambda: here.kind().ensure(silent), here.kind().delete):
        with pytest.raises(EnvironmentFailure, match="it is not complete or does not run") as no:
            verb()
        assert f"`kind delete cluster --name {here.name}` removes what there is" in no.value.hint
    assert here.kind().exists()
    here.by_hand("delete", "cluster", "--name", here.name)
    assert here.kind().ensure(silent)
