"""Speak to supervisord: XML-RPC over its unix socket, every call with a deadline."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import xmlrpc.client
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 10.0
"""How long an answer may take."""
USER = "windsock"


class Fault(EnvironmentFailure):
    """The supervisor refuses a request that it understood.

    Attributes:
        code: One of the faults of its API (`supervisor.xmlrpc.Faults`).
        text: Its words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the supervisor refused: {text}")
        self.code = code
        self.text = text


class Remote:
    """The supervisor behind a socket.

    Args:
        path: The socket.
        password: The one that its configuration names.
    """

    def __init__(self, path: Path, password: str) -> None:
        self._path = path
        self._password = password

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask the supervisor; each call has its own connection, so that threads may ask at once.

        Raises:
            Fault: It refuses.
            EnvironmentFailure: It does not run, or has another password.
            DeadlineExceeded: It does not answer.
        """
        transport = _UnixTransport(self._path, self._password)
        try:
            with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise Fault(fault.faultCode, fault.faultString) from fault
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the supervisor did not answer within {SECONDS:g} s",
                "Run `invoke down`, then `invoke up`.",
            ) from error
        except xmlrpc.client.ProtocolError as error:
            another = error.errcode == HTTPStatus.UNAUTHORIZED
            why = "it has another password" if another else error.errmsg
            raise EnvironmentFailure(f"the supervisor refused: {why}") from error
        except (OSError, http.client.HTTPException) as error:
            raise EnvironmentFailure(
                "the supervisor is not running", "Run `invoke up` first."
            ) from error


class _UnixTransport(xmlrpc.client.Transport):
    """Like supervisor's own transport, which knows no deadline."""

    def __init__(self, path: Path, password: str) -> None:
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        super().__init__(headers=[("Authorization", f"Basic {token}")])
        self._connected = _UnixConnection(path)

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        del host
        return self._connected

    def close(self) -> None:
        self._connected.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(os.fspath(self._path))
