"""A forwarded port, to real pods that come and go."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cluster.room import COMPONENT, deployment, eventually, namespace, silent
from windsock.cluster.access.forward import Forward, ForwardSettings
from windsock.cluster.api.client import OURS
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster

SERVER = """
import http.server, os, signal, socketserver
signal.signal(15, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        name = os.environ["HOSTNAME"].encode()
        self.reply(name if self.path == "/" else b"x" * int(self.path[1:]))
    def do_POST(self):
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
Server(("", 8080), Handler).serve_forever()
"""
PROBE = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        item = deployment("api-server", SERVER, readinessProbe=PROBE)
        apply(room, [item], progress=silent)
        rollout.wait(room, [item], progress=silent, timeout=120)
        yield room


def settings(cluster: ClusterAccess, room: Cluster, *, port: int = 8080) -> ForwardSettings:
    return ForwardSettings(
        context=cluster.context,
        kubeconfig=str(cluster.kubeconfig),
        namespace=room.namespace,
        selector=f"{OURS},{COMPONENT}=api-server",
        remote_port=port,
        local_port=0,
    )


@contextlib.contextmanager
def forwarding(cluster: ClusterAccess, room: Cluster, *, port: int = 8080) -> Iterator[int]:
    before = threading.active_count()
    forward = Forward(room, settings(cluster, room, port=port))
    thread = threading.Thread(target=forward.run)
    thread.start()
    try:
        yield forward.port
    finally:
        forward.close()
        thread.join()
    # One that has just ended its connection may be about to end itself.
    eventually(lambda: threading.active_count() == before, "no thread is left")


@contextlib.contextmanager
def serving(cluster: ClusterAccess, room: Cluster) -> Iterator[int]:
    """As `forwarding`, once kubectl listens."""
    with forwarding(cluster, room) as port:
        eventually(lambda: connects(port), "kubectl listens")
        yield port


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30):
        return True
    return False


def get(port: int, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def test_requests_arrive_one_after_another_on_one_connection(
    cluster: ClusterAccess, room: Cluster
) -> None:
    with serving(cluster, room) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            for size in (0, 1, 70_000, 3_000_000):
                connection.request("GET", f"/{size}")
                assert connection.getresponse().read() == b"x" * size
            body = os.urandom(2_000_000)
            connection.request("POST", "/", body=body)
            assert connection.getresponse().read() == body


def test_many_requests_at_the_same_time_all_arrive(cluster: ClusterAccess, room: Cluster) -> None:
    with serving(cluster, room) as port, ThreadPoolExecutor(24) as pool:
        sizes = [1000 * number for number in range(72)]
        bodies = list(pool.map(lambda size: get(port, f"/{size}"), sizes))
        assert [len(body) for body in bodies] == sizes


def test_a_connection_that_the_browser_keeps_does_not_hold_up_the_end(
    cluster: ClusterAccess, room: Cluster
) -> None:
    with serving(cluster, room) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read()
    connection.close()


def test_a_port_that_nobody_listens_on_is_closed_at_once(
    cluster: ClusterAccess, room: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    def is_closed() -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
        ):
            return connection.recv(1) == b""
        return False

    with forwarding(cluster, room, port=9) as port:
        eventually(is_closed, "a connection is taken, and closed")
        eventually(is_closed, "the next one as well")
    assert "refused" in capfd.readouterr().err


def test_the_port_stays_when_the_pod_is_replaced(cluster: ClusterAccess, room: Cluster) -> None:
    with serving(cluster, room) as port:
        before = get(port)
        for pod in room.items("v1", "Pod"):
            room.delete(pod)

        def other() -> bool:
            try:
                return get(port) not in {b"", before}
            except (http.client.HTTPException, OSError):
                return False

        eventually(other, "the port leads to the new pod")


def test_the_process_serves_until_it_is_told_to_end(cluster: ClusterAccess, room: Cluster) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = ForwardSettings(**{**vars(settings(cluster, room)), "local_port": port})
    child = subprocess.Popen(
        [sys.executable, "-m", "windsock.cluster.access.forward"],
        env={**os.environ, **chosen.as_variable()},
        stderr=subprocess.PIPE,
    )
    try:

        def answers() -> bytes:
            try:
                return get(port)
            except (http.client.HTTPException, OSError):
                return b""

        eventually(answers, "it answers")
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.communicate()
