"""A kind cluster: Kubernetes in Docker containers of this machine, made and removed.

windsock deletes only a cluster that it made, which has its mark (see `ownership`), and uses one
that others made as it is. kind writes the kubeconfig entry `kind-<name>`, and makes it the current
context; windsock sets the current context back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.cluster import ownership
from windsock.cluster.api import kubeconfig as kubeconfigs
from windsock.cluster.api.client import Cluster
from windsock.cluster.manifests.inventory import some
from windsock.errors import ConfigurationError, EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LINES_SHOWN = 15
READY_WAIT = "5m"
"""How long kind waits for the control plane; its own default does not wait at all."""

END_SECONDS = 10.0

OTHERS_WERE_QUICKER = ("already exist for a cluster with the name", "is already in use by")
"""The words of kind for nodes that are there, and of Docker for a node that came meanwhile."""


class Kind:
    """A kind cluster.

    Args:
        name: Of the cluster.
        config: kube/kind.yaml.
        kubeconfig: The file that gets the cluster's entry, or several as in the variable
            KUBECONFIG; None means kubectl's own.
        program: The kind executable.
        patience: Seconds that an interrupted kind has to end, before it is killed.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Path,
        kubeconfig: str | None = None,
        program: str = "kind",
        patience: float = END_SECONDS,
    ) -> None:
        self.name = name
        self._config = config
        self._kubeconfig = kubeconfig
        self._program = program
        self._patience = patience

    @property
    def context(self) -> str:
        """The kube context of the cluster."""
        return f"kind-{self.name}"

    def exists(self) -> bool:
        """Whether there is anything of the cluster, complete or not.

        Raises:
            ConfigurationError: kind is not installed.
            EnvironmentFailure: kind failed, for example because Docker does not run.
        """
        return self.name in self._run("get", "clusters").splitlines()

    def ensure(self, progress: Callable[[str], None]) -> bool:
        """Create the cluster if there is none; an interrupted or failed creation is removed.

        Returns:
            Whether it was created.

        Raises:
            ConfigurationError: kind is not installed.
            EnvironmentFailure: It could not be created, or there is one that is not complete.
        """
        if not self.exists() and self._create(progress):
            return True
        self._adopt()
        return False

    def _create(self, progress: Callable[[str], None]) -> bool:
        """Create the cluster; False if others created it meanwhile, whose nodes stay."""
        with kubeconfigs.current_context_unchanged(self._kubeconfig, new=self.context):
            try:
                # After a failure kind removes everything of the cluster's name, also the nodes of
                # others who were quicker. With --retain it removes nothing.
                self._run(
                    "create", "cluster", "--name", self.name, "--config", str(self._config),
                    "--wait", READY_WAIT, "--retain", progress=progress,
                )  # fmt: skip
                ownership.mark(self._connect())
            except BaseException as error:
                words = error.hint if isinstance(error, EnvironmentFailure) else ""
                if any(sign in words for sign in OTHERS_WERE_QUICKER):
                    return False
                with contextlib.suppress(WindsockError):  # the first failure is the one to show
                    self._discard()
                raise
        return True

    def _adopt(self) -> None:
        """Make sure that the cluster that exists can be used."""
        cluster = self._reach()
        if not ownership.is_marked(cluster) and (waiting := ownership.unready(cluster)):
            raise self._unusable(f"not ready: {some(waiting)}")

    def _reach(self) -> Cluster:
        """The cluster, by a kubeconfig entry that leads to it."""
        if self.context in kubeconfigs.contexts(self._kubeconfig):
            with contextlib.suppress(WindsockError):
                return self._answering()
        # There is no entry, as in a kubeconfig that was replaced, or it is of an earlier cluster.
        try:
            with kubeconfigs.current_context_unchanged(self._kubeconfig, new=self.context):
                self._run("export", "kubeconfig", "--name", self.name)
            return self._answering()
        except EnvironmentFailure as error:
            raise self._unusable(str(error)) from error

    def _answering(self) -> Cluster:
        cluster = self._connect()
        cluster.version()
        return cluster

    def _connect(self) -> Cluster:
        return Cluster.connect(
            context=self.context, namespace=ownership.NAMESPACE, kubeconfig=self._kubeconfig
        )

    def _unusable(self, reason: str) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"there is a kind cluster {self.name}, but it is not complete or does not run",
            "If somebody is making it just now, try again when that is done. If its containers "
            f"are stopped, `docker start {self.name}-control-plane` starts it. If its creation was "
            f"cut off, `kind delete cluster --name {self.name}` removes what there is.\n{reason}",
        )

    def delete(self, *, namespace: str = "") -> None:
        """Delete the cluster and its kubeconfig entry, if it exists and is `deletable`."""
        self.deletable(namespace=namespace)
        self._discard()

    def deletable(self, *, namespace: str = "") -> bool:
        """Whether the cluster exists, and may be deleted.

        Args:
            namespace: Of the environment that is deleted with it.

        Raises:
            ConfigurationError: windsock did not make it, or other environments are in it.
            EnvironmentFailure: It does not answer, so it is unknown who made it.
        """
        if not self.exists():
            return False
        cluster = self._reach()
        by_hand = f"`kind delete cluster --name {self.name}` deletes it all the same."
        if not ownership.is_marked(cluster):
            raise ConfigurationError(
                f"windsock did not make the kind cluster {self.name}",
                f"`invoke down --volumes` removes everything of this environment in it. {by_hand}",
            )
        others = [item for item in ownership.environments(cluster) if item != namespace]
        if others:
            raise ConfigurationError(
                f"the kind cluster {self.name} has other environments, in {some(others)}",
                "Take each down first, with `invoke down --volumes` where it was brought up, or "
                f"`kubectl --context {self.context} delete namespace NAME`. {by_hand}",
            )
        return True

    def _discard(self) -> None:
        """Delete whatever there is of the cluster, and its kubeconfig entry."""
        self._run("delete", "cluster", "--name", self.name)
        if self.exists():  # Docker was making a node while an interrupted kind ended
            self._run("delete", "cluster", "--name", self.name)

    def load(
        self,
        images: Iterable[str],
        *,
        save: Callable[[str, Path], None],
        progress: Callable[[str], None],
    ) -> None:
        """Load images of this machine into the cluster's nodes.

        They go as archives: with Docker 29, whose images are in containerd, `kind load
        docker-image` asks for platforms that were never pulled.

        Args:
            images: Tags that Docker has.
            save: Writes an image to a tar archive, in Docker's format.
            progress: Gets what is done.

        Raises:
            EnvironmentFailure: An image could not be saved, or kind could not load it.
        """
        for image in images:
            progress(f"loading {image}")
            with tempfile.TemporaryDirectory(prefix="windsock-image-") as folder:
                archive = Path(folder, "image.tar")
                save(image, archive)
                self._run("load", "image-archive", str(archive), "--name", self.name)

    def _run(self, *arguments: str, progress: Callable[[str], None] = lambda _: None) -> str:
        """Run kind; returns its output, passes on each line of its stderr."""
        lines: deque[str] = deque(maxlen=LINES_SHOWN)
        with self._started(arguments) as child:
            for line in child.stderr or ():
                lines.append(line.rstrip())
                if line.strip():
                    progress(line.strip())
            output = "".join(child.stdout or ())  # short: the names of clusters
        if child.returncode != 0:
            raise EnvironmentFailure(f"`kind {' '.join(arguments[:2])}` failed", "\n".join(lines))
        return output

    @contextlib.contextmanager
    def _started(self, arguments: Iterable[str]) -> Iterator[subprocess.Popen[str]]:
        """Start kind; end it, and what it has started, if the body does not see its end."""
        program = shutil.which(self._program)
        if program is None:
            raise ConfigurationError(
                "kind is not installed",
                "Get it from https://kind.sigs.k8s.io, name another cluster with `--context`, or "
                "run without one: `invoke up --target local`.",
            )
        try:
            child = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | kubeconfigs.variable(self._kubeconfig),
                encoding="utf-8",
                errors="replace",
                process_group=0,  # a Ctrl-C must not end the removal of what it interrupted
            )
        except OSError as error:
            raise EnvironmentFailure(
                f"{program} cannot be started: {error.strerror or error}",
                "`kind version` must work in a terminal.",
            ) from error
        with child:
            try:
                yield child
            except BaseException:
                for number in (signal.SIGTERM, signal.SIGKILL):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(self._patience)
                        break
                raise
