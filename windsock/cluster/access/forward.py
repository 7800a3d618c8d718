"""A port of this machine that leads to whatever pod is ready.

Run as `python -m windsock.cluster.access.forward`.

It listens on loopback itself and opens a stream of its own for each connection, to the pod that is
ready at that moment. When a pod is replaced its connections end, and the next ones go to the new
pod; nothing has to be started again. While no pod is ready, connections are closed at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.access.channels import Channels
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import newest_ready
from windsock.errors import ConfigurationError, EnvironmentFailure, WindsockError
from windsock.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "WINDSOCK_FORWARD"
BACKLOG = 128
READ_BYTES = 64 * 1024
DATA, ERROR = 0, 1
"""The channels of a forwarded port."""

_PORT_BYTES = 2
"""Each channel begins with the number of the port."""


@dataclass(frozen=True, kw_only=True)
class ForwardSettings:
    """What is forwarded where.

    Attributes:
        context: Of the kubeconfig.
        kubeconfig: The file; None means kubectl's own.
        namespace: Of the pods.
        selector: Labels of the pods.
        remote_port: Of the pod.
        local_port: Here, on loopback; 0 means a free one.
    """

    context: str
    kubeconfig: str | None
    namespace: str
    selector: str
    remote_port: int
    local_port: int

    def as_variable(self) -> dict[str, str]:
        """As `from_variable` reads them."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_variable(cls, variables: Mapping[str, str]) -> ForwardSettings:
        """Read what `as_variable` wrote.

        Raises:
            ConfigurationError: The variable is missing or damaged.
        """
        try:
            return cls(**json.loads(variables[VARIABLE]))
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"the variable {VARIABLE} cannot be used: {error!r}",
                "`invoke up` starts the port-forward with it.",
            ) from error


class Forward:
    """Takes connections on loopback and leads each to a pod, until it is closed.

    Args:
        cluster: With the namespace.
        settings: What is forwarded where.

    Raises:
        EnvironmentFailure: The port is taken.
    """

    def __init__(self, cluster: Cluster, settings: ForwardSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._listener = _listen(settings.local_port)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._joints: dict[threading.Thread, _Joint | None] = {}

    @property
    def port(self) -> int:
        """The port we listen on."""
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Serve until `close`.

        Raises:
            WindsockError: The pods may not be watched.
        """
        interest = Interest(api_version="v1", kind="Pod", selector=self._settings.selector)
        try:
            with ObjectWatcher(self._cluster, [interest]) as observer:
                while not self._stopping.is_set():
                    try:
                        local, _ = self._listener.accept()
                    except OSError:
                        break  # closed
                    try:
                        observer.check()
                    except WindsockError:
                        local.close()
                        raise
                    self._begin(observer, local)
        finally:
            self._end_all()

    def close(self) -> None:
        """End `run` and all connections; safe in a signal handler."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _begin(self, observer: ObjectWatcher, local: socket.socket) -> None:
        thread = threading.Thread(
            target=self._serve, args=(observer, local), name="windsock-forward", daemon=True
        )
        with self._lock:
            self._joints[thread] = None
        thread.start()

    def _end_all(self) -> None:
        self.close()
        with self._lock:
            joints = dict(self._joints)
        for joint in joints.values():
            if joint is not None:
                joint.close()
        for thread in joints:
            thread.join()

    def _serve(self, observer: ObjectWatcher, local: socket.socket) -> None:
        """Lead one connection to a pod."""
        try:
            with local:
                local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pod = newest_ready(observer.items("Pod"))
                if pod is not None:
                    self._join(local, pod["metadata"]["name"])
        except WindsockError as error:
            _say(error.message)
        finally:
            with self._lock:
                del self._joints[threading.current_thread()]

    def _join(self, local: socket.socket, pod: str) -> None:
        joint = _Joint(local, self._dial(pod))
        with self._lock:
            self._joints[threading.current_thread()] = joint
        try:
            if not self._stopping.is_set():
                joint.run()
        finally:
            joint.close()

    def _dial(self, pod: str) -> Channels:
        websocket = self._cluster.connection.websocket(
            f"{self._cluster.path('v1', 'Pod', pod)}/portforward",
            query=[("ports", str(self._settings.remote_port))],
            doing=f"forward a port to pod {pod}",
        )
        return Channels(websocket)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EnvironmentFailure(
            f"port {port} of {LOOPBACK} cannot be used: {error.strerror}",
            "Choose another one: `windsock.cluster.port` in invoke.yaml.",
        ) from error
    return listener


class _Joint:
    """A connection here and its stream to a pod; when one ends, so does the other."""

    def __init__(self, local: socket.socket, channels: Channels) -> None:
        self._local = local
        self._channels = channels

    def run(self) -> None:
        """Move bytes both ways until either side ends."""
        upward = threading.Thread(target=self._upward, name="windsock-forward-up", daemon=True)
        upward.start()
        try:
            self._downward()
        finally:
            self.close()
            upward.join()

    def close(self) -> None:
        """End both."""
        with contextlib.suppress(OSError):
            self._local.shutdown(socket.SHUT_RDWR)
        self._channels.close()

    def _upward(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._local.recv(READ_BYTES):
                self._channels.write(DATA, piece)
            # The protocol cannot say that one side has ended: what is under way goes first.
            self._channels.flush()
        self._channels.close()

    def _downward(self) -> None:
        left = _PORT_BYTES
        with contextlib.suppress(OSError):
            while piece := self._channels.read(DATA, READ_BYTES):
                skipped = min(left, len(piece))
                left -= skipped
                self._local.sendall(piece[skipped:])
        self._channels.close()
        words = b"".join(iter(lambda: self._channels.read(ERROR, READ_BYTES), b""))[_PORT_BYTES:]
        if words:
            _say(words.decode("utf-8", "replace").strip())


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Forward until SIGTERM."""
    try:
        settings = ForwardSettings.from_variable(os.environ)
        cluster = Cluster.connect(
            context=settings.context, namespace=settings.namespace, kubeconfig=settings.kubeconfig
        )
        forward = Forward(cluster, settings)

        def end(*_: Any) -> None:
            forward.close()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        forward.run()
    except WindsockError as error:
        _say(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
