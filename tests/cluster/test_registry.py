"""A node that pulls what was pushed to the registry of the settings, with a login and without.

The registry is a real one on this machine, and wants a login. The images are small ones, which
this machine's Docker has forgotten when the pods start: what runs came from the registry.
"""

from __future__ import annotations

import base64
import json
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.debian import packages
from tests.cluster.debian.commands import Commands
from tests.cluster.debian.images import PAUSE
from tests.cluster.installer import docker, run
from tests.cluster.room import deployment, eventually, namespace, silent
from tests.contract.docker import real
from tests.e2e.project import ROOT
from tests.unit.fakes import KeptConsole
from windsock.cluster.images import image
from windsock.cluster.images.image import Images
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout
from windsock.config import load
from windsock.errors import WindsockError
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location
from windsock.targets.plan import run_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess
    from tests.contract.docker.real import RealRegistry
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster

SECRET = "registry"
SECONDS = 60.0

Object = dict[str, Any]


@pytest.fixture
def registry(cluster: ClusterAccess, tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that the node reaches by the name that this machine has for it."""
    if cluster.images != "docker":
        pytest.skip("the nodes do not reach a registry on this machine's loopback address")
    if cluster.kind == "debian":
        packages.install(Commands(), packages.missing(packages.TO_SERVE_IMAGES))
    with real.serving(tmp_path, login=real.LOGIN) as registry:
        yield registry


@pytest.fixture
def room(cluster: ClusterAccess, registry: RealRegistry) -> Iterator[Cluster]:
    """A namespace; what its pods pulled is forgotten with it."""
    with namespace(cluster) as room:
        yield room

    def forgotten() -> bool:  # Once no container of a pod runs any more.
        pulled = docker("images", f"--filter=reference={registry.address}/*", "--quiet").split()
        return not pulled or run("docker", "image", "rm", "--force", *pulled).returncode == 0

    eventually(forgotten, "the images that were pulled are gone")


@pytest.fixture(autouse=True)
def login(registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `docker login` writes down."""
    word = base64.b64encode(real.LOGIN.encode()).decode()
    text = json.dumps({"auths": {registry.address: {"auth": word}}})
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return text


@contextmanager
def made(folder: Path) -> Iterator[Images]:
    """Two images that nobody else has; gone from Docker afterwards, by whatever name."""
    names = {}
    for target in image.TARGETS:
        mark = uuid.uuid4().hex[:12]
        names[target] = f"windsock-{target}-test:{mark}"
        (folder / "Dockerfile").write_text(f"FROM {PAUSE}\nCOPY mark /mark\n")
        (folder / "mark").write_text(mark)
        docker("build", "--quiet", f"--tag={names[target]}", str(folder))
    try:
        yield Images(airflow=names["airflow"], postgres=names["postgres"])
    finally:
        run("docker", "image", "rm", "--force", *names.values())


@pytest.fixture
def target(
    room: Cluster,
    cluster: ClusterAccess,
    registry: RealRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ClusterTarget:
    """A target whose images were pushed, and are no longer in Docker."""
    own = {
        "namespace": room.namespace,
        "kubeconfig": str(cluster.kubeconfig),
        "registry": registry.address,
        "pull_secret": SECRET,
    }
    settings = load({"state": str(tmp_path / "state"), "cluster": own}, project=ROOT)
    place = Location(target="context", context=cluster.context, namespace=room.namespace)
    target = ClusterTarget(Parts(settings=settings, location=place, variables={}))
    (tmp_path / "build").mkdir()
    with made(tmp_path / "build") as images:
        monkeypatch.setattr(image, "ensure", lambda _, **__: images)
        monkeypatch.setattr(image, "wanted", lambda _: images)
        console = KeptConsole()
        run_steps(target.prepare(), console)
    assert f"pushed to {registry.address}" in console.said
    return target


def puller(target: ClusterTarget) -> Object:
    """A deployment that pulls as the pods of the scheduler do."""
    [pod] = [
        item["spec"]["template"]["spec"]
        for item in target.parts.objects()
        if item["metadata"]["name"] == "airflow-scheduler" and item["kind"] == "Deployment"
    ]
    [container] = pod["containers"]
    pull = {key: container[key] for key in ("image", "imagePullPolicy")}
    item = deployment("puller", "", command=["/pause"], **pull)
    item["spec"]["template"]["spec"]["imagePullSecrets"] = pod["imagePullSecrets"]
    return item


def log_in(room: Cluster, login: str) -> None:
    """As `kubectl create secret docker-registry` does."""
    room.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": login},
        }
    )


def test_pods_pull_what_was_pushed_with_the_secret_that_the_settings_name(
    room: Cluster, target: ClusterTarget, registry: RealRegistry, login: str
) -> None:
    item = puller(target)
    apply(room, [item], progress=silent)
    with pytest.raises(WindsockError, match="windsock-airflow-test") as caught:
        rollout.wait(room, [item], progress=silent, timeout=SECONDS)
    assert "windsock.cluster.pull_secret" in caught.value.hint

    log_in(room, login)
    eventually(lambda: statuses(room, "ready"), "the same pod has pulled its image and runs")
    [name], [digest] = statuses(room, "image"), statuses(room, "imageID")
    assert name.startswith(f"{registry.address}/windsock-airflow-test:")
    assert f"{registry.address}/windsock-airflow-test@sha256:" in digest


def statuses(room: Cluster, key: str) -> list[Any]:
    """What is true of this for the containers of the deployment's pods."""
    pods = room.items("v1", "Pod", selector="app.kubernetes.io/component=puller")
    found = [status[key] for pod in pods for status in pod["status"]["containerStatuses"]]
    return [value for value in found if value]
