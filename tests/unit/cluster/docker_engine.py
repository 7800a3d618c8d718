"""A Docker engine on loopback, for the real SDK: as much as building images needs."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.requests import read_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@dataclass
class Engine:
    """What a Docker engine is asked for and answers, as far as the images need one."""

    images: set[str] = field(default_factory=set)
    built: list[str] = field(default_factory=list)
    contexts: list[set[str]] = field(default_factory=list)
    answer: list[dict[str, Any]] = field(default_factory=list)

    def build(self, query: dict[str, list[str]], body: bytes) -> list[dict[str, Any]]:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            self.contexts.append(set(archive.getnames()))
        self.built.append(query["target"][0])
        if self.answer:
            return self.answer
        self.images.add(query["t"][0])
        return [
            {"stream": "Step 1/2 : FROM python:3.12\n"},
            {"stream": " ---> 0123456789ab\n"},
            {"stream": "Step 2/2 : RUN sh install.sh\n"},
            {"stream": "Installed 3 packages\n"},
            {"stream": f"Successfully tagged {query['t'][0]}\n"},
        ]


class Handler(BaseHTTPRequestHandler):
    engine: Engine
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.endswith("/version"):
            self._answer({"ApiVersion": "1.41"})
        elif path.endswith("/_ping"):
            self._answer("OK")
        elif path.endswith("/get"):
            name = path.partition("/images/")[2].removesuffix("/get")
            self._send(200, f"layers of {name}".encode())
        else:
            name = path.partition("/images/")[2].removesuffix("/json")
            there = name in self.engine.images
            found = {"Id": name, "RepoTags": [f"another-name-of/{name}", name]}
            self._answer(found if there else {"message": "No such image"}, there)

    def do_POST(self) -> None:
        body = read_body(self)
        messages = self.engine.build(parse_qs(urlsplit(self.path).query), body)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in (json.dumps(each).encode() + b"\r\n" for each in messages):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, value: Any, found: bool = True) -> None:
        self._send(200 if found else 404, json.dumps(value).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def docker_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that the variables of this process name, while the body runs."""
    known = Engine()
    handler = type("OfThisTest", (Handler,), {"engine": known})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
