"""One connection to a cluster: the kubeconfig with all its ways to sign in, HTTP and websockets.

From the `kubernetes` package come the kubeconfig and the pooled connections. Its generated API
classes are left out: importing them and turning every answer into objects costs more than the
requests do.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

from windsock.cluster.api import failures
from windsock.cluster.api import kubeconfig as kubeconfigs
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from websocket import WebSocket

    from windsock.cluster.api.failures import ClusterUnreachable, Refusal

Object = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0

TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPALIVE": 10,  # the name of TCP_KEEPIDLE on macOS
    "TCP_KEEPINTVL": 3,
    "TCP_KEEPCNT": 3,
}
"""With these the kernel ends a connection 20 seconds after its other side is gone. A watch may be
quiet for minutes; after a laptop has slept, or a VPN was cut, nothing else would end it."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HARMLESS_RETRIES = 2


class Connection:
    """A cluster, signed in to by a context of the kubeconfig. Safe in threads.

    Args:
        configuration: `kubernetes.client.Configuration`.
        pool: The urllib3 pool that goes with it.
        context: Its name.
        kubeconfig: As for `open`.
    """

    def __init__(
        self, configuration: Any, pool: Any, *, context: str, kubeconfig: str | None
    ) -> None:
        self._configuration = configuration
        self._pool = pool
        self._signing_in = threading.Lock()
        self.context = context
        self.kubeconfig = kubeconfig
        self.server: str = configuration.host

    @classmethod
    def open(cls, *, context: str, kubeconfig: str | None) -> Connection:
        """Read the kubeconfig; the cluster itself is asked at the first request.

        Args:
            context: A context of the kubeconfig.
            kubeconfig: The file; None means kubectl's own (KUBECONFIG, ~/.kube/config).

        Raises:
            ConfigurationError: There is no such kubeconfig or context, or it cannot be used.
        """
        kubeconfigs.check_context(context, kubeconfig)
        import kubernetes.client  # noqa: PLC0415 - takes most of a second
        import kubernetes.config  # noqa: PLC0415 - as above
        import urllib3  # noqa: PLC0415 - comes with it

        configuration = kubernetes.client.Configuration()
        # A request that did not reach the server may be sent again; nothing else is.
        configuration.retries = urllib3.Retry(
            connect=0,
            read=_HARMLESS_RETRIES,
            redirect=0,
            status=0,
            other=0,
            raise_on_status=False,  # a 429 or 503 is an answer, with or without a Retry-After
        )
        try:
            kubernetes.config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration
            )
            if urlsplit(configuration.host).hostname in _LOOPBACK:
                configuration.proxy = None  # it is that of the environment
            pool = kubernetes.client.ApiClient(configuration).rest_client.pool_manager
        except Exception as error:  # a kubeconfig breaks the loader in many ways
            raise ConfigurationError(
                f"context {context} cannot be used: {error}",
                f"`kubectl --context {context} get pods` reads the same kubeconfig.",
            ) from error
        pool.connection_pool_kw["socket_options"] = [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            *(
                (socket.IPPROTO_TCP, getattr(socket, name), value)
                for name, value in TCP_OPTIONS.items()
                if hasattr(socket, name)
            ),
        ]
        return cls(configuration, pool, context=context, kubeconfig=kubeconfig)

    def request(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = READ_SECONDS,
    ) -> Object:
        """Ask the API, and wait for the JSON that it answers.

        Args:
            method: Of HTTP.
            path: Below the server's URL.
            doing: What it is for, as it stands after "the cluster refused to".
            query: Parameters.
            body: Anything that is JSON.
            content_type: Of the body; for a patch, which kind of patch it is.
            timeout: Seconds of silence after which it does not answer.

        Raises:
            Refusal: The API server refuses.
            ClusterUnreachable: It does not answer.
        """
        response = self._send(
            method, path, doing, query=query, silence=timeout, body=body, content_type=content_type
        )
        answer = self._whole(response)
        try:
            return cast("Object", json.loads(answer))
        except ValueError as error:
            raise EnvironmentFailure(
                f"{self.server} does not speak Kubernetes: it answered {answer[:80]!r}",
                f"Does context {self.context} point at the API server, or at a sign-in page?",
            ) from error

    def stream(
        self, path: str, *, doing: str, query: Mapping[str, str], silence: float
    ) -> LineStream:
        """Open an answer that comes line by line, as long as it lasts: a watch, or a log.

        Args:
            path: Below the server's URL.
            doing: As for `request`.
            query: Parameters.
            silence: Seconds without a byte, after which the connection counts as broken.

        Raises:
            Refusal: The API server refuses.
            ClusterUnreachable: It does not answer.
        """
        response = self._send("GET", path, doing, query=query, silence=silence)
        return LineStream(response, self._unreachable)

    def drop_idle(self) -> None:
        """Make new connections from now on: those in the pool may lead nowhere any more."""
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        query: Mapping[str, str] | None,
        silence: float,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send a request; returns the answer of urllib3, not read yet."""
        import urllib3  # noqa: PLC0415 - loaded by `open`

        try:
            response = self._pool.request(
                method,
                f"{self.server}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers={
                    "Accept": "application/json",
                    "Content-Type": content_type,
                    "User-Agent": "windsock",
                    **self._sign_in(),
                },
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=silence),
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(response.status, self._whole(response), doing)
        return response

    def _whole(self, response: Any) -> bytes:
        """All of an answer; its connection is free for the next one."""
        try:
            with contextlib.closing(response):
                data: bytes = response.read()
            response.release_conn()
        except Exception as error:
            raise self._unreachable(error) from error
        return data

    def websocket(self, path: str, *, doing: str, query: Sequence[tuple[str, str]]) -> WebSocket:
        """Open a websocket with Kubernetes' channel protocol, for exec.

        Raises:
            Refusal: The API server refuses.
            ClusterUnreachable: It does not answer.
        """
        import websocket  # noqa: PLC0415 - only here

        configuration = self._configuration
        proxy = urlsplit(configuration.proxy) if configuration.proxy else None
        try:
            return websocket.create_connection(
                f"ws{self.server.removeprefix('http')}{path}?{urlencode(query)}",
                timeout=CONNECT_SECONDS,
                sslopt={
                    "cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE,
                    "check_hostname": (
                        configuration.verify_ssl and configuration.assert_hostname is not False
                    ),
                    "ca_certs": configuration.ssl_ca_cert,
                    "certfile": configuration.cert_file,
                    "keyfile": configuration.key_file,
                    "server_hostname": configuration.tls_server_name,
                },
                header=self._sign_in(),
                subprotocols=["v4.channel.k8s.io"],
                suppress_origin=True,
                http_proxy_host=proxy.hostname if proxy else None,
                http_proxy_port=proxy.port if proxy else None,
                http_no_proxy=[*_LOOPBACK, *(configuration.no_proxy or "").split(",")],
            )
        except websocket.WebSocketBadStatusException as error:
            raise self._refusal(error.status_code, error.resp_body or b"", doing) from error
        except (websocket.WebSocketException, OSError) as error:
            raise self._unreachable(error) from error

    def _sign_in(self) -> dict[str, str]:
        try:
            with self._signing_in:  # it may fetch a fresh token
                token = self._configuration.get_api_key_with_prefix("authorization")
        except Exception as error:  # each way to sign in fails in its own ways
            raise failures.not_signed_in(error, context=self.context) from error
        return {"authorization": token} if token else {}

    def _unreachable(self, error: Exception) -> ClusterUnreachable:
        return failures.unreachable(error, server=self.server, context=self.context)

    def _refusal(self, code: int, body: bytes, doing: str) -> Refusal:
        text = body.decode("utf-8", "replace")
        return failures.refusal(code, text, doing=doing, server=self.server, context=self.context)


class LineStream:
    """The lines of an open answer; any thread may close it.

    Args:
        response: Of urllib3, not read yet.
        failure: Makes our error of one of urllib3's.
    """

    def __init__(self, response: Any, failure: Callable[[Exception], ClusterUnreachable]) -> None:
        self._response = response
        self._failure = failure
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        """Each line, without its end; ends when the server or `close` ends it.

        Raises:
            ClusterUnreachable: The connection broke, or nothing was heard for too long.
        """
        rest = b""
        try:
            while piece := self._response.read1():
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
        except Exception as error:
            if not self._closed.is_set():
                raise self._failure(error) from error
        finally:
            closed = self._closed.is_set()
            self.close()
        if rest and not closed:
            yield rest

    def close(self) -> None:
        """End it; a thread that waits for a line wakes up."""
        self._closed.set()
        with contextlib.suppress(Exception):
            self._response.shutdown()  # closing alone does not wake the thread that reads
        with contextlib.suppress(Exception):
            self._response.close()
