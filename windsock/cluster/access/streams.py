"""The sync agent in a pod, on a persistent exec stream."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from windsock.cluster.access.channels import ERROR, STDERR, STDIN, STDOUT, Channels
from windsock.cluster.api.workloads import ready_pod
from windsock.errors import EnvironmentFailure
from windsock.sync import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.store.agent import Options

LINES_KEPT = 50
READ_BYTES = 64 * 1024
DAG_PROCESSOR = "dag-processor"


def open_exec(cluster: Cluster, pod: Object, command: Sequence[str]) -> Channels:
    """Start a command in the first container of a pod.

    Raises:
        Refusal: We may not, or the pod is gone.
        ClusterUnreachable: The cluster does not answer.
    """
    name = pod["metadata"]["name"]
    query = [("command", part) for part in command]
    query += [
        ("container", pod["spec"]["containers"][0]["name"]),
        *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
    ]
    path = f"{cluster.path('v1', 'Pod', name)}/exec"
    return Channels(cluster.connection.websocket(path, query=query, doing=f"exec into pod {name}"))


class ExecTransport:
    """A command in a pod as a transport of the sync: see `windsock.sync.transport.Transport`.

    Args:
        channels: Of the command.
        name: Of the pod, for the diagnosis.
    """

    def __init__(self, channels: Channels, *, name: str) -> None:
        self._channels = channels
        self._name = name
        self._ending: tuple[int, str] | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._listener = threading.Thread(
            target=self._listen, name="windsock-exec-errors", daemon=True
        )
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the connection is open."""
        return self._channels.open

    def read(self, limit: int) -> bytes:
        """See `Transport`."""
        return self._channels.read(STDOUT, limit)

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        self._channels.write(STDIN, data)

    def close(self) -> None:
        """Close the connection: the agent's input ends with it, and so does the agent."""
        self._channels.close()
        self._listener.join()

    def diagnosis(self) -> str:
        """See `Transport`."""
        lines = list(self._lines)
        if not self._channels.open:
            if self._channels.reason:
                lines.append(f"the connection to pod {self._name} broke: {self._channels.reason}")
            code, words = self._ended()
            if code:
                lines.append(words or f"the agent in pod {self._name} ended, exit code {code}")
        return "\n".join(lines)

    def _ended(self) -> tuple[int, str]:
        if self._ending is None:
            try:
                self._ending = _ending(self._channels)
            except EnvironmentFailure:
                self._ending = (0, "")
        return self._ending

    def _listen(self) -> None:
        rest = b""
        while piece := self._channels.read(STDERR, READ_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            self._lines.extend(line.decode("utf-8", "replace").rstrip()[:1000] for line in lines)
        if rest:
            self._lines.append(rest.decode("utf-8", "replace")[:1000])


def exec_transport(
    cluster: Cluster, options: Options, *, python: str = "python3", component: str = DAG_PROCESSOR
) -> ExecTransport:
    """Start the sync agent in the pod that is ready now, and send it over.

    Args:
        cluster: With the namespace.
        options: How the agent works.
        python: The interpreter in the pod.
        component: Whose pod it is.

    Raises:
        EnvironmentFailure: No pod is ready, or the cluster refuses.
    """
    pod = ready_pod(cluster, component)
    command = bootstrap.command(python, options.as_json())
    channels = open_exec(cluster, pod, command)
    transport = ExecTransport(channels, name=pod["metadata"]["name"])
    with contextlib.suppress(OSError):  # an agent that ended at once has written why to stderr
        transport.write(bootstrap.greeting())
    return transport


def _ending(channels: Channels) -> tuple[int, str]:
    """The exit code of a command that ended, and what the cluster said if it did not start.

    Raises:
        EnvironmentFailure: The connection broke before it ended.
    """
    text = b""
    while piece := channels.read(ERROR, READ_BYTES):
        text += piece
    status = _status(text)
    if status is None:
        raise EnvironmentFailure(
            f"the connection to the pod broke: {channels.reason or 'it was closed'}",
            "Was the pod replaced? `invoke status` shows it; try again.",
        )
    if status.get("status") == "Success":
        return 0, ""
    causes = (status.get("details") or {}).get("causes") or []
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if codes:
        return int(codes[0]), ""
    return 1, str(status.get("message", "it could not be started"))


def _status(text: bytes) -> dict[str, Any] | None:
    """The cluster's last word on a command; None if a cut has left nothing, or half of it."""
    try:
        status = json.loads(text)
    except ValueError:
        return None
    return status if isinstance(status, dict) else None
