"""`tilt up` without Tilt: what the Tiltfile says is done to the cluster under test.

Played are the builds, what Tilt puts into manifests (its image, its entrypoint), the local
resources and one live update. What Tilt itself does around it (its engine, its watcher, its UI) is
not.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.deployed import Kubectl, project_on
from tests.cluster.installer import BUILD_SECONDS, docker
from tests.e2e.folder import dag_source
from tests.e2e.machine import assert_nothing_runs
from tests.e2e.project import ROOT, Project, eventually
from tests.unit.tilt import Tilt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess

PATIENCE = 900.0
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(PATIENCE)]

NAMESPACE = "okteto-tilt"
TAG = "tilt-0123456789abcdef"
CHILDREN = """
for child in $(cat /proc/1/task/1/children); do
    cmp -s /proc/1/cmdline "/proc/$child/cmdline" || echo "$child"
done
"""
"""Those of a container's first process that run a program; a shell's own forks wait to end them."""
WORKERS = "app.kubernetes.io/component=worker"


def run(project: Project, command: list[str], variables: Mapping[str, str]) -> str:
    """A command of the Tiltfile, `invoke …`, to its end."""
    assert command[0] == "invoke"
    done = project.invoke(*command[1:], **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def injected(tilt: Tilt) -> list[dict[str, Any]]:
    """What Tilt applies: with the images that it built, and their entrypoint."""
    [call] = tilt.calls["k8s_yaml"]
    objects = list(yaml.safe_load_all(call["yaml"]))
    builds = {build["ref"]: build for build in tilt.calls["docker_build"]}
    for item in objects:
        pod = ((item.get("spec") or {}).get("template") or {}).get("spec") or {}
        for container in pod.get("containers", []):
            build = builds[container["image"].partition(":")[0]]
            container["image"] = f"{build['ref']}:{TAG}"
            if build["entrypoint"]:
                container["command"] = build["entrypoint"]
            for variable in container.get("env", []) if build["match_in_env_vars"] else []:
                if str(variable.get("value", "")).partition(":")[0] in builds:
                    variable["value"] = container["image"]
    return objects


@pytest.fixture(scope="module")
def project(cluster: ClusterAccess, home: Path) -> Project:
    if cluster.images != "docker":
        pytest.skip("the images are built for a cluster that runs what docker has")
    project = project_on(cluster, home / "project", namespace=NAMESPACE)
    variables = {
        name: value
        for name, value in project.variables.items()
        if name not in ("INVOKE_WINDSOCK_TARGET", "INVOKE_WINDSOCK_CLUSTER_PORT")
    }
    return Project(home=project.home, variables=variables, patience=PATIENCE)


@pytest.fixture(scope="module")
def tilt(cluster: ClusterAccess, project: Project, home: Path) -> Tilt:
    folder = home / "tiltfile"
    folder.mkdir()
    (folder / "Tiltfile").write_bytes((ROOT / "Tiltfile").read_bytes())
    (folder / "invoke.yaml").write_text(
        json.dumps({"windsock": {"cluster": {"allowed_contexts": [cluster.context]}}})
    )
    return Tilt(
        context=cluster.context,
        local=lambda command, variables: run(project, command, variables),
        folder=folder,
    ).run()


@pytest.fixture(scope="module")
def kubectl(cluster: ClusterAccess) -> Kubectl:
    return Kubectl(cluster, NAMESPACE)


@pytest.fixture(scope="module")
def synced(tilt: Tilt, project: Project, kubectl: Kubectl) -> Iterator[Project]:
    """What `tilt up` leads to: everything applied, and the sync running."""
    for build in tilt.calls["docker_build"]:
        docker(
            *("build", "--quiet", f"--file={ROOT / build['dockerfile']}"),
            *(f"--target={build['target']}", f"--tag={build['ref']}:{TAG}", str(ROOT)),
            seconds=BUILD_SECONDS,
        )
    secret = tilt.named("local_resource", "secret")
    sync = tilt.named("local_resource", "sync")
    try:
        run(project, secret["cmd"], secret["env"])
        _apply(kubectl, injected(tilt))
        with project.start(*sync["serve_cmd"][1:], **sync["serve_env"]) as command:
            command.wait_for("watching for saves", timeout=PATIENCE)
            assert (project.state / "environment.json").exists(), "what its probe looks for"
            yield project
            before = kubectl.names("deployments")
            project.close()
            command.interrupt()
            assert command.end() == 0
        assert kubectl.names("deployments") == before, "it removed what Tilt had applied"
        assert_nothing_runs(project)
    finally:
        kubectl.run("delete", "namespace", NAMESPACE)
        images = [f"{build['ref']}:{TAG}" for build in tilt.calls["docker_build"]]
        docker("image", "rm", "--force", "--no-prune", *images)


def _apply(kubectl: Kubectl, objects: list[dict[str, Any]]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, file)
        file.flush()
        kubectl.run("apply", "-f", file.name)


def test_dag_tests_run_in_the_image_that_tilt_built(
    synced: Project, tilt: Tilt, kubectl: Kubectl
) -> None:
    (synced.dags / "image.py").write_text(
        dag_source("image", {"wait": "import time; time.sleep(8)"})
    )
    tests = tilt.named("local_resource", "dag-tests")
    started = synced.invoke("dags.trigger", "image", **tests["env"])
    assert started.returncode == 0, started.stderr
    [pod] = eventually(lambda: kubectl.items("pods", WORKERS), "its pod", timeout=60)
    assert pod["spec"]["containers"][0]["image"] == f"windsock-airflow:{TAG}"
    done = synced.invoke(*tests["cmd"][1:], "-k", "morning_delivery", **tests["env"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bringing it up" not in done.stderr
    (ROOT / "junit.xml").unlink()


def test_a_live_update_starts_airflow_anew_in_the_same_container(
    synced: Project, tilt: Tilt, kubectl: Kubectl
) -> None:
    def processor() -> dict[str, Any]:
        [pod] = kubectl.items("pods", "app.kubernetes.io/component=dag-processor")
        return pod

    def seen() -> str:
        return kubectl.run("exec", name, "--", "sh", "-c", CHILDREN).strip()

    name, before = processor()["metadata"]["name"], processor()["status"]["containerStatuses"]
    child = seen()
    for step in tilt.calls["sync"]:
        _copy(kubectl, name, ROOT / step["local_path"], step["remote_path"])
    [restart] = tilt.calls["run"]
    kubectl.run("exec", name, "--", "sh", "-c", restart["cmd"])
    eventually(lambda: seen() not in ("", child), "another Airflow in the container", timeout=90)
    (synced.dags / "after.py").write_text(dag_source("after"))
    assert "after" in synced.control.barrier(timeout=120).dags
    [container] = processor()["status"]["containerStatuses"]
    assert container["containerID"] == before[0]["containerID"]
    assert container["restartCount"] == before[0]["restartCount"]


def _copy(kubectl: Kubectl, pod: str, local: Path, remote: str) -> None:
    """As Tilt does it: a tar archive into the container."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(local, remote.lstrip("/"), filter=_without_bytecode)
    subprocess.run(
        kubectl.command("exec", "-i", pod, "--", "tar", "-C", "/", "-x", "-f", "-"),
        input=stream.getvalue(),
        capture_output=True,
        check=True,
        timeout=60,
    )


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry
