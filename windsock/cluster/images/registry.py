"""The registry of a kind cluster: Docker sends it the layers it lacks, the nodes get theirs there.

It is a container next to the cluster's own, made and removed by windsock. Only this machine reaches
it, on the loopback address, and the nodes, by its name on their network. Manifests use the
name that the nodes use, so that what is deployed does not depend on a port of this machine.
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
"""Where it stores its layers, in its container."""

INNER_PORT = 5000
USUAL_PORT = 5001
ANY_PORT = 0
"""The port on this machine; if the usual one is taken, Docker chooses another."""

OWNER = "windsock.dev/registry-of"
"""Label of what windsock made: the name of the kind cluster."""

NODE_OF = "io.x-k8s.kind.cluster"
ROLE = "io.x-k8s.kind.role"
NODES = ("control-plane", "worker")
"""The roles that run pods; kind labels its load balancer too."""

NO_LOGIN: push.Login = {}

START_SECONDS = 15.0
POLL_SECONDS = 0.1

CONFIGURE = 'mkdir -p "$1" && printf %s "$2" > "$1/hosts.toml"'
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
        self._labels = {OWNER: cluster}

    def reference(self, image: str) -> str:
        """What the nodes call an image of this machine."""
        return f"{self._host}/{image}"

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> None:
        """Get images onto every node, no layer twice.

        Args:
            images: Tags that Docker has.
            progress: Gets what is done.

        Raises:
            EnvironmentFailure: The registry cannot be had, or a node cannot reach it.
            DeadlineExceeded: The registry did not start in time.
        """
        with engine.connected(push.TRANSFER_SECONDS) as client:
            nodes = self._nodes(client)
            container = self._ensure(client, progress)
            self._join(client, container, nodes[0])
            for image in images:
                self._push(client, image, _address(container), progress)
            for node in nodes:
                self._configure(node)
                for image in images:
                    progress(f"{node.name} gets {image}")
                    _run(node, "crictl", "pull", self.reference(image))

    @contextmanager
    def named(self, images: Sequence[str]) -> Iterator[list[str]]:
        """Let Docker know images by the names that the nodes use, while the body runs.

        Args:
            images: Tags that Docker has.

        Yields:
            Those names.

        Raises:
            EnvironmentFailure: Docker does not answer, or does not have an image.
        """
        names = [self.reference(image) for image in images]
        with engine.connected() as client, ExitStack() as stack:
            for image, name in zip(images, names, strict=True):
                stack.enter_context(push.tagged(client, image, name))
            yield names

    def remove(self) -> None:
        """Remove the container and its layers, if windsock made them.

        Raises:
            EnvironmentFailure: Docker does not answer.
        """
        ours = f"{OWNER}={self._cluster}"
        with engine.connected() as client:
            for container in client.containers.list(all=True, filters={"label": ours}):
                container.remove(force=True, v=True)
            for volume in client.volumes.list(filters={"label": ours}):
                volume.remove()

    def _push(
        self, client: DockerClient, image: str, address: str, progress: Callable[[str], None]
    ) -> None:
        name = f"{address}/{image}"
        if not self._has(client, name):
            push.push(client, image, name, NO_LOGIN, progress)

    def _has(self, client: DockerClient, name: str) -> bool:
        """Whether it has an image; one that has just been started is waited for."""
        from docker.errors import APIError  # noqa: PLC0415 - heavy

        deadline = self._clock() + START_SECONDS
        while True:
            try:
                return push.has_image(client, name, NO_LOGIN)
            except APIError as error:
                if self._clock() > deadline:
                    raise DeadlineExceeded(
                        f"the registry {self.name} does not answer", engine.words(error)
                    ) from error
                self._pause(POLL_SECONDS)

    # --- its container ------------------------------------------------------------------------

    def _ensure(self, client: DockerClient, progress: Callable[[str], None]) -> Container:
        """The container, running."""
        found = self._find(client)
        if found is not None and found.status == "running":
            return found
        _get_image(client, progress)
        if found is not None:
            found.remove(force=True)  # The port it had may be taken now; its layers stay.
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

        client.volumes.create(self.name, labels=self._labels)
        container = self._create(client, USUAL_PORT)
        try:
            container.start()
        except APIError:  # The port is taken; whatever else it is comes again.
            container.remove(force=True)
            container = self._create(client, ANY_PORT)
            container.start()
        container.reload()
        return container

    def _create(self, client: DockerClient, port: int) -> Container:
        return client.containers.create(
            IMAGE,
            name=self.name,
            labels=self._labels,
            ports={f"{INNER_PORT}/tcp": (LOOPBACK, port)},
            volumes={self.name: {"bind": STORAGE, "mode": "rw"}},
            environment={"OTEL_TRACES_EXPORTER": "none"},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            restart_policy={"Name": "always"},
        )

    # --- the cluster's nodes ------------------------------------------------------------------

    def _nodes(self, client: DockerClient) -> list[Container]:
        labelled = client.containers.list(filters={"label": f"{NODE_OF}={self._cluster}"})
        nodes = [container for container in labelled if container.labels.get(ROLE) in NODES]
        if not nodes:
            raise EnvironmentFailure(f"Docker runs no node of the kind cluster {self._cluster}")
        return nodes

    def _join(self, client: DockerClient, container: Container, node: Container) -> None:
        """Let the nodes reach the registry by its name."""
        for network in _networks(node) - _networks(container):
            client.networks.get(network).connect(container)

    def _configure(self, node: Container) -> None:
        """Tell a node's containerd that the registry speaks HTTP; it reads this at each pull."""
        folder = f"/etc/containerd/certs.d/{self._host}"
        _run(node, "sh", "-c", CONFIGURE, "sh", folder, f'[host."http://{self._host}"]\n')


def _get_image(client: DockerClient, progress: Callable[[str], None]) -> None:
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
