from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from windsock.cluster.api.client import Cluster
from windsock.cluster.api.connection import Connection
from windsock.cluster.api.failures import ClusterUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """Answers requests on connections that stay open, and counts these; or says nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.silent = threading.Event()
        self._end = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                if server.silent.is_set():
                    server._end.wait(20)
                    return
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def connection(url: str, *, sign_in: Any = lambda *_: "") -> Connection:
    configuration = SimpleNamespace(
        host=url,
        proxy=None,
        verify_ssl=False,
        ssl_ca_cert=None,
        cert_file=None,
        key_file=None,
        no_proxy=None,
        tls_server_name=None,
        api_key={},
        get_api_key_with_prefix=sign_in,
    )
    pool = urllib3.PoolManager(retries=urllib3.Retry(connect=0, read=0))
    return Connection(configuration, pool, context="lab", kubeconfig=None)


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as made:
        yield made


def test_who_cannot_wait_is_told_soon_that_nobody_answers(server: Server) -> None:
    server.silent.set()
    hurried = Cluster(connection(server.url), namespace="mine").within(0.05)
    with pytest.raises(ClusterUnreachable, match="does not answer"):
        hurried.version()
    hurried.connection.drop_idle()


def test_connections_that_lie_ready_are_left_after_a_cut(server: Server) -> None:
    asking = connection(server.url)
    for _ in range(2):
        asking.request("GET", "/", doing="look")
    assert server.connections == 1
    asking.drop_idle()
    asking.request("GET", "/", doing="look")
    assert server.connections == 2
    asking.drop_idle()


def _fail(*_: object) -> str:
    raise urllib3.exceptions.HTTPError("login.example does not answer")


def test_a_sign_in_that_fails_is_a_cluster_that_does_not_answer(server: Server) -> None:
    signing_in = connection(server.url, sign_in=_fail)
    with pytest.raises(
        ClusterUnreachable, match=r"context lab cannot sign in: login\.example"
    ) as told:
        signing_in.request("GET", "/", doing="look")
    assert "kubectl --context lab" in told.value.hint
    with pytest.raises(ClusterUnreachable, match="cannot sign in"):
        signing_in.websocket("/", doing="look", query=[])
    assert server.connections == 0
