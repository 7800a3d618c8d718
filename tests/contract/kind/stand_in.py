"""A machine with a stand-in for kind: a program that behaves as kind does, and clusters' APIs."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.contract.kind.program import Docker
from tests.requests import read_body
from windsock.cluster.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("program.py")
KINDS = {
    "configmaps": ("ConfigMap", True),
    "namespaces": ("Namespace", False),
    "nodes": ("Node", False),
    "persistentvolumeclaims": ("PersistentVolumeClaim", True),
}
"""Plural → the kind, and whether its objects live in a namespace."""

PATH = re.compile(
    r"/(?P<uid>[0-9a-f]{32})/(?:(?P<version>version)|api/v1"
    r"(?:/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?)?)"
)


class StandIn:
    """The machine: what is in its Docker, and what its kind was asked.

    Args:
        folder: Where it keeps all that.
    """

    def __init__(self, folder: Path) -> None:
        self.docker = Docker(folder)
        self.program = folder / "kind"
        command = shlex.join([sys.executable, str(PROGRAM), str(folder)])
        self.program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.program.chmod(0o755)
        self.config = folder / "kind.yaml"
        self.config.write_text("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n")
        self.kubeconfig = folder / "kubeconfig"

    def kind(self, **more: Any) -> Kind:
        usual = {
            "name": "demo",
            "config": self.config,
            "kubeconfig": str(self.kubeconfig),
            "program": str(self.program),
        }
        return Kind(**{**usual, **more})

    def plan(self, **troubles: Any) -> None:
        """How the next commands go wrong: `docker`, `quicker`, `slow`, `late`, `readonly`."""
        (self.docker.folder / "plan.json").write_text(json.dumps(troubles))

    def calls(self) -> list[list[str]]:
        text = (self.docker.folder / "calls").read_text()
        return [json.loads(line) for line in text.splitlines()]


class _Handler(BaseHTTPRequestHandler):
    """As much of Kubernetes as it takes: objects by path, created, applied, listed by labels."""

    docker: Docker
    objects: dict[tuple[str, str, str, str], dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = PATH.fullmatch(parts.path)
        node = self._node(found["uid"]) if found else None
        if found is None or node is None:
            self.close_connection = True  # Nobody is there: no answer at all.
            return
        if found["version"]:
            self._answer(200, {"gitVersion": "v1.34.0"})
        elif found["plural"] is None:
            resources = [
                {"name": plural, "kind": kind, "namespaced": namespaced}
                for plural, (kind, namespaced) in KINDS.items()
            ]
            self._answer(200, {"resources": resources})
        elif found["plural"] == "nodes":
            self._answer(200, {"items": [node], "metadata": {}})
        else:
            key = (found["uid"], found["plural"], found["namespace"] or "", found["name"] or "")
            self._object(key, parse_qs(parts.query))

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _node(self, uid: str) -> dict[str, Any] | None:
        """The node of a cluster, as Kubernetes tells of it."""
        for cluster in self.docker.clusters():
            node = self.docker.node(cluster)
            if node.get("uid") == uid and node["complete"]:
                ready = {"type": "Ready", "status": str(node.get("ready", True))}
                images = [{"names": [name]} for name in node["images"]]
                return {
                    "metadata": {"name": f"{cluster}-control-plane"},
                    "status": {"conditions": [ready], "images": images},
                }
        return None

    def _object(self, key: tuple[str, str, str, str], query: dict[str, list[str]]) -> None:
        uid, plural, namespace, name = key
        body = json.loads(read_body(self) or b"{}")
        if self.command == "GET" and not name:
            [selector] = query.get("labelSelector", [""])
            wanted = dict(part.split("=") for part in selector.split(",") if part)
            items = [
                item
                for (where, what, within, _), item in self.objects.items()
                if (where, what) == (uid, plural)
                and namespace in {"", within}
                and wanted.items() <= (item["metadata"].get("labels") or {}).items()
            ]
            self._answer(200, {"items": items, "metadata": {}})
            return
        name = name or body["metadata"]["name"]
        key = (uid, plural, namespace, name)
        if self.command == "POST" and key in self.objects:
            self._answer(409, {"message": f"{plural} {name} already exists"})
        elif self.command in {"POST", "PATCH"} and Docker(self.docker.folder).plan.get("readonly"):
            self._answer(500, {"message": "nothing can be written"})
        elif self.command in {"POST", "PATCH"}:
            body["metadata"] |= {"namespace": namespace} if namespace else {}
            self.objects[key] = {**body, "status": {}}
            self._answer(200, self.objects[key])
        elif key not in self.objects:
            self._answer(404, {"message": f"{plural} {name} not found"})
        else:
            item = self.objects.pop(key) if self.command == "DELETE" else self.objects[key]
            self._answer(200, item)

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def machine(folder: Path) -> Iterator[StandIn]:
    """A machine without any cluster, whose future clusters answer."""
    stand_in = StandIn(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        parts = {"docker": stand_in.docker, "objects": {}}
        server.RequestHandlerClass = type("OfThisMachine", (_Handler,), parts)
        (folder / "api").write_text(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
