"""The kubectl of PATH: it renders manifests, runs shells and forwards ports."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from windsock.cluster.api import kubeconfig
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from windsock.cluster.api.client import Cluster

OLDEST = (1, 27)
GET = "Get version 1.27 or newer: https://kubernetes.io/docs/tasks/tools"


def program() -> str:
    """The path of kubectl.

    Raises:
        ConfigurationError: There is none.
    """
    found = shutil.which("kubectl")
    if found is None:
        raise ConfigurationError(
            "kubectl is not installed on this machine",
            f"{GET}. Without a cluster: `invoke up --target local`.",
        )
    return found


def start(cluster: Cluster, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start kubectl in a namespace.

    Args:
        cluster: With the namespace.
        arguments: What kubectl is to do.
        options: Of `subprocess.Popen`.

    Raises:
        ConfigurationError: There is no kubectl.
    """
    place = (f"--context={cluster.context}", f"--namespace={cluster.namespace}")
    return subprocess.Popen(
        [program(), *place, *arguments],
        env={**os.environ, **kubeconfig.variable(cluster.connection.kubeconfig)},
        **options,
    )
