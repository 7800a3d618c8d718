"""A port of this machine that leads to whatever pod is ready.

Run as `python -m windsock.cluster.access.forward`.

`kubectl port-forward` leads to one pod, as long as that pod and the connection last. This process
starts it again for the next pod, after it has ended, and when the cluster could not be reached for
a moment: kubectl itself does not notice for minutes that a network was lost in silence.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from windsock.cluster import kubectl
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import newest_ready
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.local import orphans
from windsock.local.ports import LOOPBACK

VARIABLE = "WINDSOCK_FORWARD"
LOOK_SECONDS = 0.2
"""Until it is noticed that kubectl has ended."""
AGAIN_SECONDS = 1.0
"""From one start of kubectl to the next one for the same pod."""


@dataclass(frozen=True, kw_only=True)
class ForwardSettings:
    """What is forwarded where.

    Attributes:
        context: Of the kubeconfig.
        kubeconfig: The file; None means kubectl's own.
        namespace: Of the pods.
        selector: Labels of the pods.
        remote_port: Of the pod.
        local_port: Of this machine, on loopback; 0 means a free one.
    """

    context: str
    kubeconfig: str | None
    namespace: str
    selector: str
    remote_port: int
    local_port: int

    def as_variable(self) -> dict[str, str]:
        """The variable that the process reads."""
        return {VARIABLE: json.dumps(asdict(self))}


class Forward:
    """Runs `kubectl port-forward` to the newest pod that is ready.

    Args:
        cluster: With the namespace.
        settings: What is forwarded where.
        look: Seconds until it is noticed that kubectl has ended.
        again: Seconds from one start of kubectl to the next one for the same pod.

    Raises:
        EnvironmentFailure: The port is taken.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ForwardSettings,
        *,
        look: float = LOOK_SECONDS,
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._look = look
        self._again = again
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._way: tuple[str, int] | None = None
        self._started = 0.0
        self.port = _free_port(settings.local_port)

    def run(self) -> None:
        """Serve until `close`.

        Raises:
            ConfigurationError: There is no kubectl.
            WindsockError: The pods may not be watched.
        """
        interest = Interest(api_version="v1", kind="Pod", selector=self._settings.selector)
        seen = -1
        try:
            with ObjectWatcher(self._cluster, [interest]) as watcher:
                while not self._stopping:
                    pod = newest_ready(watcher.items("Pod"))
                    if pod is not None:
                        self._lead_to(pod["metadata"]["name"], watcher.losses)
                    seen = watcher.wait(seen, timeout=self._look)
        finally:
            self._end()

    def close(self) -> None:
        """End `run` within a moment; safe in a signal handler."""
        self._stopping = True

    def _lead_to(self, pod: str, losses: int) -> None:
        """Start kubectl for this pod, unless it leads there already.

        Args:
            pod: The name.
            losses: How often the connection to the cluster was lost until now.
        """
        runs = self._child is not None and self._child.poll() is None
        same = self._way == (pod, losses)
        if same and (runs or time.monotonic() < self._started + self._again):
            return
        self._end()
        self._way, self._started = (pod, losses), time.monotonic()
        ports = f"{self.port}:{self._settings.remote_port}"
        self._child = kubectl.start(
            self._cluster, "port-forward", f"--address={LOOPBACK}", f"pod/{pod}", ports,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a line for each connection
        )  # fmt: skip

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()


def _free_port(port: int) -> int:
    """The port, or a free one for 0; EnvironmentFailure if it is taken."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise EnvironmentFailure(
                f"port {port} of {LOOPBACK} cannot be used: {error.strerror}",
                "Choose another one: `windsock.cluster.port` in invoke.yaml.",
            ) from error
        return int(probe.getsockname()[1])


def _end_orphan() -> None:
    """End the kubectl of a process like this one that was killed: it has the port."""
    if state := os.environ.get(orphans.MARK):
        for process in orphans.marked(Path(state)):
            with suppress(psutil.Error):
                if "port-forward" in process.cmdline():
                    process.kill()
                    process.wait()


def main() -> int:
    """Forward until SIGTERM."""
    settings = ForwardSettings(**json.loads(os.environ[VARIABLE]))
    try:
        cluster = Cluster.connect(
            context=settings.context, namespace=settings.namespace, kubeconfig=settings.kubeconfig
        )
        _end_orphan()
        forward = Forward(cluster, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: forward.close())
        forward.run()
    except WindsockError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
