"""The proxy that Okteto puts before the API server for the commands of `deploy`.

As its source has it (pkg/deployable/proxy.go, json_translator.go): TLS on loopback, a token of its
own, a label on whatever is created or replaced as JSON and on the pods of that, no other kind of
body; all else, a patch or an open stream, is passed on as it came.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import http.client
import io
import json
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPMessage
    from pathlib import Path

LABEL = "dev.okteto.com/deployed-by"
TOKEN = "of-one-deploy"
"""What the commands sign in with; Okteto makes a new one each time."""
MAKES_PODS = {"Deployment", "StatefulSet", "Job", "DaemonSet", "ReplicaSet"}
PIECE = 64 * 1024
END_SECONDS = 5


@contextmanager
def proxied(kubeconfig: dict[str, Any], *, name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A kubeconfig that leads through the proxy, as long as that runs.

    Args:
        kubeconfig: Of the account, with one cluster and one user.
        name: The label's value.
        folder: For a certificate.
    """
    certificate, key = folder / "proxy.crt", folder / "proxy.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, key)
    proxy = _Proxy(kubeconfig, name=name)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "localhost", 0, ssl=ours))
    thread = threading.Thread(target=loop.run_forever, name="okteto-proxy")
    thread.start()
    changed = copy.deepcopy(kubeconfig)
    changed["clusters"][0]["cluster"] = {
        "server": f"https://localhost:{server.sockets[0].getsockname()[1]}",
        "certificate-authority-data": base64.b64encode(certificate.read_bytes()).decode(),
    }
    changed["users"][0]["user"] = {"token": TOKEN}
    try:
        yield changed
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(_end())
        loop.close()


class _Proxy:
    """One request for each connection: what comes after it belongs to its answer."""

    def __init__(self, kubeconfig: dict[str, Any], *, name: str) -> None:
        cluster = kubeconfig["clusters"][0]["cluster"]
        self._address = urlsplit(cluster["server"])
        self._token = kubeconfig["users"][0]["user"]["token"]
        self._name = name
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._trusted = ssl.create_default_context(cadata=authority)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readline()
            if first:
                await self._pass_on(first, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # Whoever asked has gone.
        finally:
            writer.close()

    async def _pass_on(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        rest = await reader.readuntil(b"\r\n\r\n")
        headers = http.client.parse_headers(io.BytesIO(rest))
        body = await reader.readexactly(int(headers["Content-Length"] or 0))
        refused, body = self._judge(first.split()[0].decode(), headers, body)
        if refused:
            writer.write(f"HTTP/1.1 {refused} -\r\nContent-Length: 0\r\n".encode())
            writer.write(b"Connection: close\r\n\r\n")
            await writer.drain()
            return
        _replace(headers, "Authorization", f"Bearer {self._token}")
        _replace(headers, "Host", self._address.netloc)
        if body:
            _replace(headers, "Content-Length", str(len(body)))
        if "Upgrade" not in headers:
            _replace(headers, "Connection", "close")
        there, upstream = await asyncio.open_connection(
            self._address.hostname, self._address.port or 443, ssl=self._trusted
        )
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        upstream.write(first + lines.encode() + b"\r\n" + body)
        ways = [asyncio.create_task(_copy(*way)) for way in ((reader, upstream), (there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            upstream.close()

    def _judge(self, method: str, headers: HTTPMessage, body: bytes) -> tuple[int, bytes]:
        """An HTTP status if it is refused, and the body as it is passed on."""
        if headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, body
        if method not in {"POST", "PUT"} or not body:
            return 0, body
        if headers["Content-Type"] != "application/json":
            return 415, body
        item = json.loads(body)
        if "metadata" not in item:
            return 500, body
        for metadata in [item["metadata"], *_of_pods(item)]:
            metadata.setdefault("labels", {})[LABEL] = self._name
        return 0, json.dumps(item).encode()


def _of_pods(item: dict[str, Any]) -> list[dict[str, Any]]:
    if item["kind"] not in MAKES_PODS:
        return []
    return [item["spec"]["template"].setdefault("metadata", {})]


def _replace(headers: HTTPMessage, name: str, value: str) -> None:
    del headers[name]
    headers[name] = value


async def _end() -> None:
    """Let what goes on come to its end: whoever spoke through the proxy has ended before."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=END_SECONDS)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
