"""The cluster of tests/cluster: that kind's is made by its owner, and gets images by it."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster import conftest as suites
from tests.cluster.conftest import ClusterAccess
from tests.cluster.deployed import project_on
from tests.contract.kind.stand_in import machine
from windsock.cluster.api import kubeconfig
from windsock.cluster.images.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kind_cluster_is_up_for_the_suites_and_gone_with_its_entry_and_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(Registry, "remove", lambda registry: removed.append(registry.name))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with machine(tmp_path) as here:
        with suites._kind() as access:
            assert here.docker.clusters() == ["windsock-test"]
            assert access.context == "kind-windsock-test"
            assert kubeconfig.contexts(str(access.kubeconfig)) == [access.context]
        assert here.docker.clusters() == []
        assert kubeconfig.contexts(str(access.kubeconfig)) == []
        assert removed == ["windsock-test-registry"]
        [created] = [call for call in here.calls() if call[0] == "create"]
        assert created[created.index("--config") + 1].endswith("kube/kind.yaml")


def test_one_that_was_up_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with machine(tmp_path) as here:
        here.kind(name=suites.KIND_CLUSTER).ensure(lambda _: None)
        with suites._kind():
            pass
        assert here.docker.clusters() == [suites.KIND_CLUSTER]


@pytest.mark.parametrize(
    ("images", "target", "name"),
    [("kind", "kind", "windsock-test"), ("docker", "context", None), ("registry", "context", None)],
)
def test_on_kind_an_environment_is_of_the_target_that_delivers_images(
    tmp_path: Path, images: str, target: str, name: str | None
) -> None:
    access = ClusterAccess("kind", tmp_path / "kubeconfig", "kind-windsock-test", images)  # type: ignore[arg-type] # one of three strings
    variables = project_on(access, tmp_path / "home", namespace="mine").variables
    assert variables["INVOKE_WINDSOCK_TARGET"] == target
    assert variables.get("INVOKE_WINDSOCK_CLUSTER_KIND_NAME") == name


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_a_context_of_any_of_several_files_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"name": "c", "cluster": {"server": "https://lab.example.com"}}
    context = {"name": "lab", "context": {"cluster": "c", "user": "u"}}
    (tmp_path / "one").write_text(yaml.safe_dump({"clusters": [cluster], "users": []}))
    (tmp_path / "two").write_text(
        yaml.safe_dump({"contexts": [context], "users": [{"name": "u", "user": {"token": "t"}}]})
    )
    files = [str(tmp_path / name) for name in ("one", "two")]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(files))
    with suites._context("lab") as access:
        found = yaml.safe_load(access.kubeconfig.read_text())
        assert found["clusters"] == [cluster]
        assert found["users"][0]["user"] == {"token": "t"}
        assert not stat.S_IMODE(access.kubeconfig.parent.stat().st_mode) & 0o077
    assert not access.kubeconfig.exists()
