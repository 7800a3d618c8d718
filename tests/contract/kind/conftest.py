"""The machines of the cases: one with a stand-in for kind, and this one where it has kind.

On the real one each case makes a cluster of its own and removes it: half a minute each.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.contract.kind.stand_in import StandIn, machine
from windsock.cluster.images import engine
from windsock.cluster.kind import Kind
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

REAL_CONFIG = Path(__file__).parents[3] / "kube" / "kind.yaml"
REAL_SECONDS = 1200
UNSTARTABLE = "windsock-contract-unstartable:1"
"""An image whose containers do not start."""


class Machine(Protocol):
    """A machine on which kind clusters are made.

    Attributes:
        name: Of the cluster of this case.
        kubeconfig: The user's file; it does not exist yet.
    """

    name: str
    kubeconfig: Path

    def kind(self, **more: Any) -> Kind:
        """The owner under contract, of that cluster."""

    def by_hand(self, *arguments: str) -> None:
        """Run kind as a person would."""

    def cut_off(self) -> None:
        """Leave what a creation leaves that was killed as soon as there was a node."""

    def interruptible(self) -> None:
        """Make the next creation last until it is interrupted."""

    def docker_load(self, archive: Path) -> None:
        """Give the images of an archive to Docker."""


class StandInMachine:
    """See `Machine`."""

    def __init__(self, stand_in: StandIn) -> None:
        self.name = "demo"
        self.kubeconfig = stand_in.kubeconfig
        self.kind = stand_in.kind
        self._stand_in = stand_in

    def by_hand(self, *arguments: str) -> None:
        _run(str(self._stand_in.program), *arguments, kubeconfig=self.kubeconfig)

    def cut_off(self) -> None:
        self._stand_in.docker.put(self.name, uid=uuid.uuid4().hex, complete=False, images=[])

    def interruptible(self) -> None:
        self._stand_in.plan(slow=True)

    def docker_load(self, archive: Path) -> None:
        """It starts no container."""


class RealMachine:
    """See `Machine`."""

    def __init__(self, folder: Path) -> None:
        self.name = f"windsock-contract-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = folder / "kubeconfig"
        self._folder = folder
        self._images: list[str] = []

    def kind(self, **more: Any) -> Kind:
        usual = {"name": self.name, "config": REAL_CONFIG, "kubeconfig": str(self.kubeconfig)}
        return Kind(**{**usual, **more})

    def by_hand(self, *arguments: str) -> None:
        _run("kind", *arguments, kubeconfig=self.kubeconfig)

    def cut_off(self) -> None:
        self.docker_load(image_archive(self._folder / "unstartable.tar", UNSTARTABLE))
        labels = {"cluster": self.name, "role": "control-plane"}
        options = [f"--label=io.x-k8s.kind.{key}={value}" for key, value in labels.items()]
        _run("docker", "create", f"--name={self.name}-control-plane", *options, UNSTARTABLE)

    def interruptible(self) -> None:
        """It takes its time anyway."""

    def docker_load(self, archive: Path) -> None:
        _run("docker", "load", "--input", str(archive))
        self._images += names_in(archive)

    def clear(self) -> None:
        """Remove whatever a case has made."""
        self.by_hand("delete", "cluster", "--name", self.name)
        for name in set(self._images):
            _run("docker", "image", "rm", "--force", name)


def _run(*command: str, kubeconfig: Path | None = None) -> None:
    more = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    subprocess.run(command, env=os.environ | more, check=True, capture_output=True)


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param("real", marks=pytest.mark.timeout(REAL_SECONDS)),
    ]
)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """A machine; in the end it has no cluster of the case."""
    if request.param == "stand-in":
        with machine(tmp_path) as stand_in:
            yield StandInMachine(stand_in)
        return
    if shutil.which("kind") is None:
        pytest.skip("kind is not installed here")
    try:
        with engine.connected():
            pass
    except EnvironmentFailure as error:
        pytest.skip(f"kind needs Docker: {error.message}")
    real = RealMachine(tmp_path)
    try:
        yield real
    finally:
        real.clear()


def image_archive(path: Path, name: str) -> Path:
    """Write an image as `docker save` does: one layer, and a command that does not exist."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        _add(files, "greeting", name.encode())
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
            platform.machine(), platform.machine()
        ),
        "os": "linux",
        "config": {"Cmd": ["/missing"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as files:
        _add(files, "layer.tar", layer.getvalue())
        _add(files, "config.json", json.dumps(config).encode())
        _add(files, "manifest.json", json.dumps(manifest).encode())
    return path


def _add(files: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    files.addfile(entry, io.BytesIO(data))


def names_in(archive: Path) -> list[str]:
    """The names of the images in an archive."""
    with tarfile.open(archive) as files:
        found = files.extractfile("manifest.json")
        assert found is not None
        return [name for image in json.load(found) for name in image["RepoTags"]]
