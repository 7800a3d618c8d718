"""The one owner of `kind`: a cluster in Docker containers of this machine, made and removed.

Only what windsock made is ever deleted: a cluster that it made carries its mark (see `ownership`).
One that others made is used as it is. kind writes the kubeconfig entry `kind-<name>`; which
context is the current one stays the user's own choice.
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
from typing import IO, TYPE_CHECKING

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
"""How long kind may take to end when it is interrupted."""

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
    """

    def __init__(
        self, *, name: str, config: Path, kubeconfig: str | None = None, program: str = "kind"
    ) -> None:
        self.name = name
        self._config = config
        self._kubeconfig = kubeconfig
        self._program = program

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
        """Create the cluster; False if others were quicker; their nodes stay."""
        with kubeconfigs.current_context_unchanged(self._kubeconfig, new=self.context):
            try:
                # kind would remove everything of the cluster's name after a failure, also what
                # belongs to others who were quicker. With --retain we look first.
                self._run(
                    "create", "cluster", "--name", self.name, "--config", str(self._config),
                    "--wait", READY_WAIT, "--retain", progress=progress,
                )  # fmt: skip
                ownership.mark(self._connect())
            except BaseException as error:
                if _others_were_quicker(error):
                    return False
                with contextlib.suppress(WindsockError):  # The first failure is the one to show.
                    self._discard()
                raise
        return True

    def _adopt(self) -> None:
        """Make sure that the cluster that is there can be used."""
        cluster = self._reach()
        if ownership.is_marked(cluster):
            return
        if waiting := ownership.unready(cluster):
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
            f"If somebody is making it just now, try again when that is done. If its containers "
            f"are stopped, `docker start {self.name}-control-plane` starts it. If its creation was "
            f"cut off, `kind delete cluster --name {self.name}` removes what there is.\n{reason}",
        )

    def delete(self, *, namespace: str = "") -> None:
        """Delete the cluster and its kubeconfig entry; nothing happens if it does not exist.

        Args:
            namespace: See `deletable`.

        Raises:
            ConfigurationError: See `deletable`.
            EnvironmentFailure: See `deletable`, or kind could not delete it.
        """
        self.deletable(namespace=namespace)
        self._discard()

    def deletable(self, *, namespace: str = "") -> bool:
        """Whether there is a cluster, and nothing stands against deleting it.

        Args:
            namespace: Of the environment that goes with it; those in other namespaces must not.

        Raises:
            ConfigurationError: windsock did not make it, or other environments are in it.
            EnvironmentFailure: It does not answer, so that its maker is unknown.
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
        if self.exists():  # Docker was making a node while an interrupted kind ended.
            self._run("delete", "cluster", "--name", self.name)

    def load(
        self,
        images: Iterable[str],
        *,
        save: Callable[[str, Path], None],
        progress: Callable[[str], None],
    ) -> None:
        """Get images of this machine onto the cluster's nodes.

        Args:
            images: Tags that Docker has.
            save: Writes an image to a tar archive, in Docker's format.
            progress: Gets what is done.

        Raises:
            EnvironmentFailure: It failed both ways.
        """
        for image in images:
            progress(f"loading {image}")
            try:
                self._run("load", "docker-image", image, "--name", self.name)
            except EnvironmentFailure:
                # Docker 29 stores images in containerd, and kind then asks for platforms that were
                # never pulled; an archive has only what there is.
                self._load_archive(image, save=save)

    def _load_archive(self, image: str, *, save: Callable[[str, Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="windsock-image-") as folder:
            archive = Path(folder, "image.tar")
            save(image, archive)
            self._run("load", "image-archive", str(archive), "--name", self.name)

    def _run(self, *arguments: str, progress: Callable[[str], None] | None = None) -> str:
        """Run kind; returns what it wrote to stdout, passes on each line of its stderr."""
        lines: deque[str] = deque(maxlen=LINES_SHOWN)
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            with _ended(self._start(arguments, output)) as child:
                for line in child.stderr or ():
                    lines.append(line.rstrip())
                    if progress is not None and line.strip():
                        progress(line.strip())
                code = child.wait()
            output.seek(0)
            text = output.read()
        if code != 0:
            raise EnvironmentFailure(f"`kind {' '.join(arguments[:2])}` failed", "\n".join(lines))
        return text

    def _start(self, arguments: Iterable[str], output: IO[str]) -> subprocess.Popen[str]:
        program = shutil.which(self._program)
        if program is None:
            raise ConfigurationError(
                "kind is not installed",
                "Get it from https://kind.sigs.k8s.io, name another cluster with `--context`, or "
                "run without one: `invoke up --target local`.",
            )
        try:
            return subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env=os.environ | kubeconfigs.variable(self._kubeconfig),
                encoding="utf-8",
                errors="replace",
                process_group=0,  # A Ctrl-C must not end the removal of what it interrupted.
            )
        except OSError as error:
            raise EnvironmentFailure(
                f"{program} cannot be started: {error.strerror or error}",
                "`kind version` must work in a terminal.",
            ) from error


def _others_were_quicker(error: BaseException) -> bool:
    words = error.hint if isinstance(error, EnvironmentFailure) else ""
    return any(sign in words for sign in OTHERS_WERE_QUICKER)


@contextlib.contextmanager
def _ended(child: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a child, and what it has started, if the body does not see its end."""
    with child:
        try:
            yield child
        except BaseException:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(END_SECONDS)
                    break
            raise
