"""One connection to a cluster: the kubeconfig with all its ways to sign in, HTTP and websockets.

From the `kubernetes` package come the kubeconfig and the pooled connections. Its generated API
classes are left out: importing them and turning every answer into objects costs more than the
requests do.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

from windsock.cluster.api import failures, keepalive
from windsock.cluster.api import kubeconfig as kubeconfigs
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from websocket import WebSocket

    from windsock.cluster.api.failures import ClusterUnreachable, Refusal

Object = dict[str, Any]

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0

_AGENT = "windsock"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HARMLESS_RETRIES = 2
_FAILED = 400


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
        from_environment = configuration.proxy
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
            api = kubernetes.config.new_client_from_config(
                config_file=kubeconfig, context=context, client_configuration=configuration
            )
            host = urlsplit(configuration.host).hostname
            if host in _LOOPBACK and configuration.proxy == from_environment is not None:
                configuration.proxy = None
                api = kubernetes.client.ApiClient(configuration)
        except Exception as error:  # a kubeconfig breaks the loader in many ways
            raise ConfigurationError(
                f"context {context} cannot be used: {error}",
                f"`kubectl --context {context} get pods` reads the same kubeconfig.",
            ) from error
        pool = api.rest_client.pool_manager
        pool.connection_pool_kw["socket_options"] = keepalive.socket_options()
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
            method, path, query=query or {}, body=body, content_type=content_type, read=timeout
        )
        data = self._whole(response)
        if response.status >= _FAILED:
            raise self._refusal(response.status, data, doing)
        try:
            return cast("Object", json.loads(data))
        except ValueError as error:
            raise EnvironmentFailure(
                f"{self.server} does not speak Kubernetes: it answered {data[:80]!r}",
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
        response = self._send("GET", path, query=query, body=None, content_type="", read=silence)
        if response.status >= _FAILED:
            raise self._refusal(response.status, self._whole(response), doing)
        return LineStream(response, self._unreachable)

    def _whole(self, response: Any) -> bytes:
        """All of an answer; its connection is free for the next one."""
        try:
            with contextlib.closing(response):
                data: bytes = response.read()
            response.release_conn()
        except Exception as error:
            raise self._unreachable(error) from error
        return data

    def drop_idle(self) -> None:
        """Make new connections from now on: those that lie ready may lead nowhere any more."""
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Any,
        content_type: str,
        read: float,
    ) -> Any:
        import urllib3  # noqa: PLC0415 - loaded by `connect`

        headers = {"Accept": "application/json", "User-Agent": _AGENT, **self._sign_in()}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            return self._pool.request(
                method,
                f"{self.server}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read),
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error

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
                header=[f"{key}: {value}" for key, value in self._sign_in().items()],
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
        keys = self._configuration.api_key
        try:
            with self._signing_in:  # it may fetch a fresh token
                # The client calls the token so from release 36 on.
                name = "BearerToken" if "BearerToken" in keys else "authorization"
                token = self._configuration.get_api_key_with_prefix(name)
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
            if self._closed.is_set():
                return
        except Exception as error:
            if self._closed.is_set():
                return
            raise self._failure(error) from error
        finally:
            self.close()
        if rest:
            yield rest

    def close(self) -> None:
        """End it; a thread that waits for a line wakes up."""
        self._closed.set()
        with contextlib.suppress(Exception):
            self._response.shutdown()  # closing alone does not wake the thread that reads
        with contextlib.suppress(Exception):
            self._response.close()
