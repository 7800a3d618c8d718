"""DevSpace's own sync as a peer of bench.sync, where `devspace` is on PATH.

Of the tools that ship files into pods and stay (Tilt, Skaffold, DevSpace) it is the one that syncs
a folder into a pod that exists, without a project of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from windsock.cluster.api.client import Cluster

SYSTEM = "devspace sync"
END_SECONDS = 10.0


def is_here() -> bool:
    """Whether it can be run."""
    return shutil.which("devspace") is not None


@contextmanager
def syncing(
    folder: Path, end: str, *, cluster: Cluster, pod: str, container: str, kubeconfig: str
) -> Iterator[None]:
    """Let it sync a folder into a pod until the block is left.

    Args:
        folder: On this machine.
        end: The folder in the pod.
        cluster: With the namespace.
        pod: Its name.
        container: Of the pod.
        kubeconfig: A file; empty means what it would use itself.
    """
    command = [
        "devspace", "sync", f"--path={folder}:{end}", f"--pod={pod}", f"--container={container}",
        f"--namespace={cluster.namespace}", f"--kube-context={cluster.context}",
        # This way only, as ours; what is there already is not asked about.
        "--upload-only", "--initial-sync=mirrorLocal", "--no-warn",
        *([f"--kubeconfig={kubeconfig}"] if kubeconfig else []),
    ]  # fmt: skip
    child = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
