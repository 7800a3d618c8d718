"""The kubectl of PATH: it renders manifests, runs shells and forwards ports."""

from __future__ import annotations

import os
import re
import shutil
from http import HTTPStatus
from typing import TYPE_CHECKING

from windsock.cluster.api import failures, kubeconfig
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from windsock.cluster.api.client import Cluster
    from windsock.errors import WindsockError

OLDEST = (1, 27)
GET = "Get version 1.27 or newer: https://kubernetes.io/docs/tasks/tools"

ENDED = "command terminated with exit code "
"""How its last line begins after a command in a pod that ran and failed."""

_LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.go:\d+\] ")
_STARTS = (
    ENDED,
    "error: ",
    "Error from server",
    "Unable to connect",
    "The connection to the server ",
)


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


def command(cluster: Cluster, *arguments: str) -> list[str]:
    """A kubectl command in a namespace.

    Args:
        cluster: With the namespace.
        arguments: What kubectl is to do.

    Raises:
        ConfigurationError: There is no kubectl.
    """
    place = (f"--context={cluster.context}", f"--namespace={cluster.namespace}")
    return [program(), *place, *arguments]


def environment(cluster: Cluster) -> dict[str, str]:
    """The variables that such a command needs: ours, and where the kubeconfig is."""
    return {**os.environ, **kubeconfig.variable(cluster.connection.kubeconfig)}


def is_own_line(line: str) -> bool:
    """Whether kubectl may have written a line, and not a command in a pod."""
    return line.startswith(_STARTS) or is_log_line(line)


def is_log_line(line: str) -> bool:
    """Whether kubectl wrote a line for those who look for a fault in kubectl."""
    return bool(_LOG_LINE.match(line))


def failure(cluster: Cluster, words: str, *, doing: str) -> WindsockError:
    """What kubectl's last lines mean.

    Args:
        cluster: With the namespace.
        words: The lines.
        doing: As it stands after "the cluster refused to".
    """
    refused = {"Forbidden": HTTPStatus.FORBIDDEN, "Unauthorized": HTTPStatus.UNAUTHORIZED}
    for word, code in refused.items():
        if f"({word})" in words:
            return failures.refusal(
                code, words, doing=doing, server=cluster.server, context=cluster.context
            )
    if "executable file not found" in words or "no such file or directory" in words:
        return ConfigurationError(f"the pod cannot run it: {words}", "Is the program in the image?")
    return EnvironmentFailure(
        f"kubectl could not {doing}: {words or 'it gave no reason'}",
        "Was the pod replaced? `invoke status` shows it; try again.",
    )
