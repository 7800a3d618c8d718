"""What may stand between a laptop and an API server: a network that changes, and a proxy."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess

Object = dict[str, Any]

LISTEN = "127.0.0.2"
"""This machine, by an address that stands in no certificate."""
RELAY = "relay"
"""The name of its threads."""
TICK = 0.05
READ_BYTES = 64 * 1024


class Relay:
    """Forwards connections; to be used in a `with` statement.

    Args:
        host: Where to.
        port: As above.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._listener = socket.create_server((LISTEN, 0))
        self._listener.settimeout(TICK)
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._kept = contextlib.ExitStack()
        self._threads = [threading.Thread(target=self._accept, name=RELAY)]

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def lose(self) -> None:
        """Forward nothing more on the connections that are open, and tell neither end.

        So it is when a laptop comes back in another network: what it sends on its old connections
        arrives nowhere, and nobody says so. New connections work.
        """
        self._lost.set()
        self._lost = threading.Event()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._kept.close()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(near, self._lost), name=RELAY)
                self._threads.append(thread)
                thread.start()

    def _serve(self, near: socket.socket, lost: threading.Event) -> None:
        ended = True
        with contextlib.ExitStack() as ends:
            with contextlib.suppress(OSError):
                ended = self._forward(*self._open(ends.enter_context(near), ends), lost)
            if not ended:
                self._kept.push(ends.pop_all())

    def _open(
        self, near: socket.socket, ends: contextlib.ExitStack
    ) -> tuple[socket.socket, socket.socket]:
        """Both ends of a new connection, which are closed with `ends`."""
        return near, ends.enter_context(socket.create_connection(self._target))

    def _forward(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> bool:
        """Forward until one side ends (then true), or the connection is lost."""
        others = {near: far, far: near}
        while not (self._stop.is_set() or lost.is_set()):
            ready = [one for one in others if isinstance(one, ssl.SSLSocket) and one.pending()]
            for one in ready or select.select([*others], [], [], TICK)[0]:
                if lost.is_set():
                    break
                data = one.recv(READ_BYTES)
                if not data:
                    return True
                others[one].sendall(data)
        return False


class Proxy(Relay):
    """Speaks HTTP, and has the API server below a path; asks for a token, and has a key itself.

    So do Rancher and others that stand before API servers.

    Args:
        host: Of the API server.
        port: As above.
        prefix: The path.
        token: What clients must send.
        near: With the proxy's own certificate.
        far: With what the API server lets in.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        prefix: str,
        token: str,
        near: ssl.SSLContext,
        far: ssl.SSLContext,
    ) -> None:
        super().__init__(host, port)
        self._prefix = prefix
        self._token = token
        self._near = near
        self._far = far
        self.passed: list[str] = []
        """The paths that were asked for, without the prefix."""

    def _open(
        self, near: socket.socket, ends: contextlib.ExitStack
    ) -> tuple[socket.socket, socket.socket]:
        near, far = super()._open(near, ends)
        near = ends.enter_context(self._near.wrap_socket(near, server_side=True))
        host = self._target[0]
        far = ends.enter_context(self._far.wrap_socket(far, server_hostname=host))
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(READ_BYTES)
        head, _, body = head.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, version = first.split(" ")
        if f"authorization: bearer {self._token}" not in [line.lower() for line in lines]:
            near.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            raise PermissionError(path)
        if not path.startswith(f"{self._prefix}/"):
            near.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            raise FileNotFoundError(path)
        path = path.removeprefix(self._prefix)
        self.passed.append(path)
        upgrade = any(line.lower().startswith("upgrade:") for line in lines)
        dropped = ("authorization:",) if upgrade else ("authorization:", "connection:")
        kept = [line for line in lines if not line.lower().startswith(dropped)]
        if not upgrade:  # We look at the first request of a connection only.
            kept.append("Connection: close")
        fresh = "\r\n".join([f"{method} {path} {version}", *kept])
        far.sendall(fresh.encode() + b"\r\n\r\n" + body)
        return near, far


@contextlib.contextmanager
def relayed(access: ClusterAccess, folder: Path) -> Iterator[tuple[Relay, Path]]:
    """A relay to the cluster, and a kubeconfig that goes by it; TLS is checked as before.

    Args:
        access: Whose API server has a certificate for the name `kubernetes`.
        folder: For the kubeconfig.
    """
    config = yaml.safe_load(access.kubeconfig.read_text())
    cluster = _cluster_of(config, access.context)
    url = urlsplit(cluster["server"])
    with Relay(str(url.hostname), url.port or 443) as relay:
        cluster |= {"server": f"https://{relay.address}", "tls-server-name": "kubernetes"}
        yield relay, _write(folder / "relayed.yaml", config)


@contextlib.contextmanager
def proxied(access: ClusterAccess, folder: Path, *, prefix: str) -> Iterator[tuple[Proxy, Path]]:
    """A proxy that has the cluster's API server below a path, and a kubeconfig for it.

    Args:
        access: Whose kubeconfig signs in with a certificate.
        folder: For the kubeconfig, and for keys.
        prefix: The path.
    """
    config = yaml.safe_load(access.kubeconfig.read_text())
    cluster = _cluster_of(config, access.context)
    url = urlsplit(cluster["server"])
    far = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
    user = _user_of(config, access.context)
    signed = folder / "user.pem"
    signed.write_text(_text(user["client-certificate-data"]) + _text(user["client-key-data"]))
    far.load_cert_chain(signed)
    near = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own = _own_certificate(folder)
    near.load_cert_chain(own, folder / "proxy.key")
    token = "of-the-proxy"
    with Proxy(
        str(url.hostname), url.port or 443, prefix=prefix, token=token, near=near, far=far
    ) as proxy:
        cluster.pop("certificate-authority-data")
        cluster |= {
            "server": f"https://{proxy.address}{prefix}",
            "certificate-authority": str(own),
        }
        user.clear()
        user["token"] = token
        yield proxy, _write(folder / "proxied.yaml", config)


def _own_certificate(folder: Path) -> Path:
    certificate = folder / "proxy.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-days", "2", "-subj", "/CN=proxy", "-keyout", folder / "proxy.key"),
            *("-out", certificate, "-addext", f"subjectAltName=IP:{LISTEN}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


def _cluster_of(config: Object, context: str) -> Object:
    return _named(config["clusters"], _named(config["contexts"], context)["cluster"])


def _user_of(config: Object, context: str) -> Object:
    return _named(config["users"], _named(config["contexts"], context)["user"])


def _named(items: list[Object], name: str) -> Object:
    [found] = [item for item in items if item["name"] == name]
    kind = {"context", "cluster", "user"} & found.keys()
    inner: Object = found[kind.pop()]
    return inner


def _text(data: str) -> str:
    return base64.b64decode(data).decode()


def _write(path: Path, config: Object) -> Path:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path
