"""An image registry in memory: as much of its API (v2) as a push and a question need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.requests import read_body

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})")
START = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/")
UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<upload>\d+)")
MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")


@dataclass
class Held:
    """What the registry has, and what it was sent.

    Attributes:
        address: Host and port.
        blobs: Digest → bytes.
        manifests: Name and tag or digest → media type and bytes.
        uploads: What each upload has sent so far.
        tagged: Name and tag of each manifest that was put, in order.
        login: The user and the password that it wants, with a colon between; empty means none.
        refuses: Whether uploads are denied.
    """

    address: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: list[bytes] = field(default_factory=list)
    tagged: list[str] = field(default_factory=list)
    login: str = ""
    refuses: bool = False

    def stored(self) -> set[str]:
        """The digests of the layers and configurations that it has."""
        return set(self.blobs)

    def stamp(self, name: str, tag: str) -> object:
        """Something that is another each time that the image is pushed."""
        return self.tagged.count(f"{name}:{tag}")

    def layers(self, name: str, tag: str) -> list[str]:
        """The digests of an image's layers."""
        _, manifest = self.manifests[name, tag]
        return [layer["digest"] for layer in json.loads(manifest)["layers"]]

    def config(self, name: str, tag: str) -> str:
        """The digest of an image's configuration."""
        _, manifest = self.manifests[name, tag]
        return str(json.loads(manifest)["config"]["digest"])


class _Handler(BaseHTTPRequestHandler):
    held: Held
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def _knows_the_user(self) -> bool:
        word = base64.b64encode(self.held.login.encode()).decode()
        if not self.held.login or self.headers.get("Authorization") == f"Basic {word}":
            return True
        read_body(self)
        # Docker tries again, for a minute, where a registry gives no detail.
        error = {"code": "UNAUTHORIZED", "message": "authentication required", "detail": []}
        body = json.dumps({"errors": [error]}).encode()
        self._answer(401, body, challenge='Basic realm="stand-in"')
        return False

    def do_GET(self) -> None:
        if not self._knows_the_user():
            return
        path = urlsplit(self.path).path
        if path == "/v2/":
            self._answer(200, b"{}")
        elif found := MANIFEST.fullmatch(path):
            self._manifest(*found.group("name", "reference"))
        elif (found := BLOB.fullmatch(path)) and found["digest"] in self.held.blobs:
            self._answer(200, self.held.blobs[found["digest"]], digest=found["digest"])
        else:
            self._unknown("BLOB_UNKNOWN")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        if not self._knows_the_user():
            return
        found = START.fullmatch(urlsplit(self.path).path)
        if found is None:
            self._unknown("UNSUPPORTED")
            return
        if self.held.refuses:
            self._answer(403, b'{"errors": [{"code": "DENIED", "message": "denied"}]}')
            return
        read_body(self)  # What another repository has may be mounted: this registry does not.
        self.held.uploads.append(b"")
        self._accepted(found["name"], len(self.held.uploads) - 1)

    def do_PATCH(self) -> None:
        if not self._knows_the_user():
            return
        found = UPLOAD.fullmatch(urlsplit(self.path).path)
        if found is None:
            self._unknown("BLOB_UPLOAD_UNKNOWN")
            return
        number = int(found["upload"])
        self.held.uploads[number] += read_body(self)
        self._accepted(found["name"], number)

    def do_PUT(self) -> None:
        if not self._knows_the_user():
            return
        parts = urlsplit(self.path)
        body = read_body(self)
        if found := UPLOAD.fullmatch(parts.path):
            [digest] = parse_qs(parts.query)["digest"]
            self._finish(digest, self.held.uploads[int(found["upload"])] + body)
        elif found := MANIFEST.fullmatch(parts.path):
            name, tag = found.group("name", "reference")
            digest = _digest(body)
            entry = (self.headers["Content-Type"], body)
            self.held.manifests[name, tag] = self.held.manifests[name, digest] = entry
            self.held.tagged.append(f"{name}:{tag}")
            self._answer(201, digest=digest)
        else:
            self._unknown("UNSUPPORTED")

    def _finish(self, digest: str, data: bytes) -> None:
        if _digest(data) != digest:
            self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        self.held.blobs[digest] = data
        self._answer(201, digest=digest)

    def _manifest(self, name: str, reference: str) -> None:
        media_type, body = self.held.manifests.get((name, reference), ("", b""))
        if body:
            self._answer(200, body, media_type=media_type, digest=_digest(body))
        else:
            self._unknown("MANIFEST_UNKNOWN")

    def _accepted(self, name: str, number: int) -> None:
        size = len(self.held.uploads[number])
        location = f"http://{self.held.address}/v2/{name}/blobs/uploads/{number}"
        self._answer(202, location=location, received=f"0-{max(0, size - 1)}")

    def _unknown(self, code: str) -> None:
        message = code.replace("_", " ").lower()
        self._answer(404, json.dumps({"errors": [{"code": code, "message": message}]}).encode())

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        *,
        media_type: str = "application/json",
        digest: str = "",
        location: str = "",
        received: str = "",
        challenge: str = "",
    ) -> None:
        self.send_response(status)
        headers = {
            "Docker-Distribution-Api-Version": "registry/2.0",
            "Content-Type": media_type,
            "Content-Length": str(len(body)),
            "Docker-Content-Digest": digest,
            "Location": location,
            "Range": received,
            "WWW-Authenticate": challenge,
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def serving(*, login: str = "") -> Iterator[Held]:
    """A registry on a free port of this machine, empty.

    Args:
        login: The user and the password that it wants, with a colon between; empty means none.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        held = Held(address=f"127.0.0.1:{server.server_port}", login=login)
        server.RequestHandlerClass = type("OfThisRegistry", (_Handler,), {"held": held})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
