"""The one owner of `kind`: a cluster in Docker containers of this machine, made and removed.

Only what windsock made is ever deleted: the cluster has a name of its own, and deleting it is asked
for (`invoke down --cluster`). kind keeps the kubeconfig entry `kind-<name>` itself.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LINES_SHOWN = 15
READY_WAIT = "5m"
"""How long kind waits for the control plane; its own default does not wait at all."""


class Kind:
    """A kind cluster.

    Args:
        name: Of the cluster.
        config: kube/kind.yaml.
        kubeconfig: The file that gets the cluster's entry; None means kubectl's own.
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
        """Whether the cluster was created.

        Raises:
            ConfigurationError: kind is not installed.
            EnvironmentFailure: kind failed, say because Docker does not run.
        """
        return self.name in self._run("get", "clusters").splitlines()

    def ensure(self, progress: Callable[[str], None]) -> bool:
        """Create the cluster if there is none; an interrupted or failed creation is removed.

        Returns:
            Whether it was created.

        Raises:
            ConfigurationError: kind is not installed.
            EnvironmentFailure: It could not be created.
        """
        if self.exists():
            # Its entry may have been lost, say with a kubeconfig that was replaced.
            self._run("export", "kubeconfig", "--name", self.name, *self._kubeconfig_option())
            return False
        try:
            self._run(
                "create", "cluster", "--name", self.name, "--config", str(self._config),
                "--wait", READY_WAIT, *self._kubeconfig_option(), progress=progress,
            )  # fmt: skip
        except BaseException:
            self.delete()
            raise
        return True

    def delete(self) -> None:
        """Delete the cluster and its kubeconfig entry; nothing happens if it does not exist."""
        self._run("delete", "cluster", "--name", self.name, *self._kubeconfig_option())

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
                # Docker 29 keeps images in containerd, and kind then asks for platforms that were
                # never pulled; an archive holds only what there is.
                self._load_archive(image, save=save)

    def _load_archive(self, image: str, *, save: Callable[[str, Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="windsock-image-") as folder:
            archive = Path(folder, "image.tar")
            save(image, archive)
            self._run("load", "image-archive", str(archive), "--name", self.name)

    def _kubeconfig_option(self) -> Sequence[str]:
        return ("--kubeconfig", self._kubeconfig) if self._kubeconfig else ()

    def _run(self, *arguments: str, progress: Callable[[str], None] | None = None) -> str:
        """Run kind; returns what it wrote to stdout, passes on each line of its stderr."""
        program = shutil.which(self._program)
        if program is None:
            raise ConfigurationError(
                "kind is not installed here",
                "Get it from https://kind.sigs.k8s.io, name another cluster with `--context`, or "
                "run without one: `invoke up --target local`.",
            )
        said: deque[str] = deque(maxlen=LINES_SHOWN)
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as output,
            subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as child,
        ):
            if child.stderr is None:
                raise AssertionError("the pipe was asked for")
            for line in child.stderr:
                said.append(line.rstrip())
                if progress is not None and line.strip():
                    progress(line.strip())
            code = child.wait()
            output.seek(0)
            text = output.read()
        if code != 0:
            raise EnvironmentFailure(f"`kind {' '.join(arguments[:2])}` failed", "\n".join(said))
        return text
