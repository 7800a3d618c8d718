"""The registry of a kind cluster: Docker pushes layers to it, and the nodes pull them.

The registry is a container, made and removed by windsock. Only this machine reaches it, on the
loopback address, and the nodes, by its name on their network. Manifests use the name that the nodes
use, so that what is deployed does not depend on a port of this machine.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from windsock.cluster.images import engine, push
from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from docker import DockerClient
    from docker.models.containers import Container

IMAGE = "registry:3.0.0"
STORAGE = "/var/lib/registry"
"""The folder of the layers, in the container."""

INNER_PORT = 5000
USUAL_PORT = 5001
ANY_PORT = 0
"""The port on this machine; if the usual one is taken, Docker chooses another."""

OWNER = "windsock.dev/registry-of"
"""Label of what windsock made: the name of the kind cluster."""

_NODE_OF = "io.x-k8s.kind.cluster"
_ROLE = "io.x-k8s.kind.role"
_ROLES = ("control-plane", "worker")
"""The roles that run pods; kind labels its load balancer too."""

_START_SECONDS = 15.0
_POLL_SECONDS = 0.1

_CONFIGURE = 'mkdir -p "$1" && printf %s "$2" > "$1/hosts.toml"'
"""Run by a node's shell, with a folder and a text as arguments."""


class KindRegistry:
    """The registry of one kind cluster.

    Args:
        cluster: The cluster's name.
        clock: Seconds that only grow.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        cluster: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._pause = pause
        self.name = f"{cluster}-registry"
        self._host = f"{self.name}:{INNER_PORT}"

    def reference(self, image: str) -> str:
        """The name by which the nodes know an image of this machine."""
        return f"{self._host}/{image}"

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> None:
        """Bring images of Docker to every node; each layer is pushed once.

        Raises:
            EnvironmentFailure: The registry cannot be started, or a node cannot reach it.
            DeadlineExceeded: The registry did not start in time.
        """
        with engine.connected(push.TRANSFER_SECONDS) as client:
            nodes = self._nodes(client)
            container = self._ensure(client, progress)
            for network in _networks(nodes[0]) - _networks(container):
                client.networks.get(network).connect(container)
            address = _address(container)
            for image in images:
                name = f"{address}/{image}"
                if not self._has(client, name):
                    push.push(client, image, name, {}, progress)
            for node in nodes:
                # containerd reads at each pull that the registry speaks HTTP.
                folder = f"/etc/containerd/certs.d/{self._host}"
                _run(node, "sh", "-c", _CONFIGURE, "sh", folder, f'[host."http://{self._host}"]\n')
                for image in images:
                    progress(f"{node.name} gets {image}")
                    _run(node, "crictl", "pull", self.reference(image))

    @contextmanager
    def named(self, images: Sequence[str]) -> Iterator[list[str]]:
        """Give Docker's images the names that the nodes use, while the body runs; yields them.

        Raises:
            EnvironmentFailure: Docker does not answer, or does not have an image.
        """
        with engine.connected() as client, ExitStack() as stack:
            for image in images:
                stack.enter_context(push.tagged(client, image, self.reference(image)))
            yield [self.reference(image) for image in images]

    def remove(self) -> None:
        """Remove the container and its layers, if windsock made them."""
        ours = f"{OWNER}={self._cluster}"
        with engine.connected() as client:
            for container in client.containers.list(all=True, filters={"label": ours}):
                container.remove(force=True, v=True)
            for volume in client.volumes.list(filters={"label": ours}):
                volume.remove()

    def _has(self, client: DockerClient, name: str) -> bool:
        """Whether the registry has an image; a registry that is just starting is waited for."""
        from docker.errors import APIError  # noqa: PLC0415 - heavy

        deadline = self._clock() + _START_SECONDS
        while True:
            try:
                return push.has_image(client, name, {})
            except APIError as error:
                if self._clock() > deadline:
                    raise DeadlineExceeded(
                        f"the registry {self.name} does not answer", engine.words(error)
                    ) from error
                self._pause(_POLL_SECONDS)

    def _ensure(self, client: DockerClient, progress: Callable[[str], None]) -> Container:
        """The container, running."""
        found = self._find(client)
        if found is not None and found.status == "running":
            return found
        _pull(client, progress)
        if found is not None:
            found.remove(force=True)  # Its port may be taken now; its layers stay in the volume.
        return self._start(client)

    def _find(self, client: DockerClient) -> Container | None:
        from docker.errors import NotFound  # noqa: PLC0415 - heavy

        try:
            found = client.containers.get(self.name)
        except NotFound:
            return None
        if found.labels.get(OWNER) != self._cluster:
            raise EnvironmentFailure(
                f"windsock did not make the container {self.name}",
                f"It would be the registry of its kind cluster; `docker rename {self.name} …` "
                "makes room for it.",
            )
        return found

    def _start(self, client: DockerClient) -> Container:
        from docker.errors import APIError  # noqa: PLC0415 - heavy

        labels = {OWNER: self._cluster}
        client.volumes.create(self.name, labels=labels)
        for port in (USUAL_PORT, ANY_PORT):
            container = client.containers.create(
                IMAGE,
                name=self.name,
                labels=labels,
                ports={f"{INNER_PORT}/tcp": (LOOPBACK, port)},
                volumes={self.name: {"bind": STORAGE, "mode": "rw"}},
                environment={"OTEL_TRACES_EXPORTER": "none"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                restart_policy={"Name": "always"},
            )
            try:
                container.start()
                break
            except APIError:  # The usual port may be taken.
                container.remove(force=True)
                if port == ANY_PORT:
                    raise
        container.reload()
        return container

    def _nodes(self, client: DockerClient) -> list[Container]:
        labelled = client.containers.list(filters={"label": f"{_NODE_OF}={self._cluster}"})
        nodes = [container for container in labelled if container.labels.get(_ROLE) in _ROLES]
        if not nodes:
            raise EnvironmentFailure(f"Docker runs no node of the kind cluster {self._cluster}")
        return nodes


def _pull(client: DockerClient, progress: Callable[[str], None]) -> None:
    from docker.errors import APIError  # noqa: PLC0415 - heavy

    if engine.has_image(client, IMAGE):
        return
    progress(f"pulling {IMAGE}")
    try:
        client.images.pull(IMAGE)
    except APIError as error:
        raise EnvironmentFailure(f"{IMAGE} cannot be pulled", engine.words(error)) from error


def _address(container: Container) -> str:
    published = container.ports.get(f"{INNER_PORT}/tcp")
    if not published:
        raise EnvironmentFailure(f"the container {container.name} has no port on this machine")
    return f"{LOOPBACK}:{published[0]['HostPort']}"


def _networks(container: Container) -> set[str]:
    return set(container.attrs["NetworkSettings"]["Networks"])


def _run(node: Container, *command: str) -> None:
    code, output = node.exec_run(list(command))
    if code != 0:
        words = output.decode(errors="replace") if isinstance(output, bytes) else ""
        raise EnvironmentFailure(f"`{command[0]}` failed on the node {node.name}", words.strip())
