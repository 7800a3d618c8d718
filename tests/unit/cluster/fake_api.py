"""An API server on loopback, for the real connection: over HTTP, with watches, in memory."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.unit.cluster.fake_store import Kind, Object, Refused, Store, matches
from windsock.cluster.api.client import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cluster.fake_store import Change, Place

NAMESPACE = "room"
CONTEXT = "fake"

KINDS = (
    Kind("v1", "Namespace", "namespaces", namespaced=False),
    Kind("v1", "Node", "nodes", namespaced=False),
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "Pod", "pods"),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind("v1", "Event", "events"),
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("v1", "Service", "services"),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("apps/v1", "Deployment", "deployments"),
    Kind("apps/v1", "StatefulSet", "statefulsets"),
    Kind("apps/v1", "ReplicaSet", "replicasets"),
    Kind("apps/v1", "DaemonSet", "daemonsets"),
    Kind("batch/v1", "Job", "jobs"),
    Kind("coordination.k8s.io/v1", "Lease", "leases"),
)

KUBECONFIG = """
current-context: {context}
contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
users: [{{name: u, user: {{}}}}]
"""

_PATH = re.compile(
    r"/(?:api/(?P<core>[^/]+)|apis/(?P<group>[^/]+/[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"(?:/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?)?"
)


@dataclass
class Answer:
    """Something that the server says instead of what it would.

    Attributes:
        code: The HTTP status.
        body: All of it.
        headers: More of them.
        left: How often it is still said.
        cut: Close the connection after the body, without its end.
    """

    code: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    left: int = 1
    cut: bool = False


def status(code: int, message: str) -> bytes:
    """What Kubernetes answers instead of an object."""
    return json.dumps({"kind": "Status", "code": code, "message": message}).encode()


class FakeApi:
    """The server, from `__enter__` to `__exit__`, with one namespace.

    Attributes:
        store: Its objects.
        asked: `METHOD path` of each request; the method of a watch is `WATCH`, of a dry run `TRY`.
        logs: Name of a pod → the lines of its log; an open log ends when `end_logs` is called.
        watching: How many watches are open.
        connections: How many connections clients have made.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store()
        self.asked: list[str] = []
        self.logs: dict[str, list[bytes]] = {}
        self.watching = 0
        self.connections = 0
        self.answers: list[tuple[str, re.Pattern[str], Answer]] = []
        self.generation = 0
        self.over = False
        self.sockets: set[socket.socket] = set()
        self._file = folder / "kubeconfig"
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._clusters: list[Cluster] = []

    def __enter__(self) -> Self:
        self._file.write_text(KUBECONFIG.format(context=CONTEXT, server=self.url))
        self._thread.start()
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        return self

    def __exit__(self, *_: object) -> None:
        for cluster in self._clusters:
            cluster.connection.drop_idle()
        self._server.shutdown()
        self._thread.join()
        self.over = True  # also for a watch that is just beginning
        self.end_watches()
        self.cut()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def kubeconfig(self) -> str:
        return str(self._file)

    def cluster(self, namespace: str = NAMESPACE) -> Cluster:
        """What the toolkit sees of it."""
        made = Cluster.connect(context=CONTEXT, namespace=namespace, kubeconfig=self.kubeconfig)
        self._clusters.append(made)
        return made

    # --- what a test arranges -------------------------------------------------------------------

    def put(self, item: Object) -> Object:
        """Write an object as a controller or somebody else would."""
        kind = _served(item["apiVersion"], item["kind"])
        return self.store.put(kind, _place(kind, item), item)

    def remove(self, item: Object) -> None:
        """Take an object away."""
        kind = _served(item["apiVersion"], item["kind"])
        self.store.remove(kind, _place(kind, item))

    def answer(
        self,
        method: str,
        path: str,
        code: int,
        message: str | bytes = "no",
        *,
        times: int = 1,
        cut: bool = False,
        **headers: str,
    ) -> Answer:
        """Say something else to the next requests of a method whose path matches a pattern.

        A message that is bytes is said as it is, a text within a Status of Kubernetes.
        """
        body = message if isinstance(message, bytes) else status(code, message)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        made = Answer(code, body, named, times, cut)
        self.answers.append((method, re.compile(path), made))
        return made

    def end_watches(self) -> None:
        """End all watches and logs that are open, as a server does whose time is over."""
        with self.store.changed:
            self.generation += 1
            self.store.changed.notify_all()

    def cut(self) -> None:
        """Cut all connections."""
        for each in list(self.sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    # --- what a test looks at -------------------------------------------------------------------

    def names(self, kind: str) -> list[str]:
        """The names of all objects of a kind."""
        return sorted(item["metadata"]["name"] for item in self.store.all() if item["kind"] == kind)

    def find(self, kind: str, name: str) -> Object | None:
        """An object, if there is one."""
        found = (item for item in self.store.all() if item["kind"] == kind)
        return next((item for item in found if item["metadata"]["name"] == name), None)

    def writes(self) -> list[str]:
        """What was asked for that changes something."""
        return [line for line in self.asked if not line.startswith(("GET", "WATCH", "TRY"))]


def _served(api_version: str, name: str) -> Kind:
    return next(kind for kind in KINDS if (kind.api_version, kind.kind) == (api_version, name))


def _place(kind: Kind, item: Object) -> Place:
    namespace = item["metadata"].get("namespace", NAMESPACE) if kind.namespaced else ""
    return namespace, item["metadata"]["name"]


class _Server(ThreadingHTTPServer):
    """A thread a connection; all have ended when it is closed."""

    daemon_threads = False
    api: FakeApi

    def handle_error(self, *_: object) -> None:
        """A client that hung up is no failure of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.api = self.server.api
        self.api.connections += 1
        self.api.sockets.add(self.connection)

    def finish(self) -> None:
        self.api.sockets.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as the library calls them

    def _serve(self) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query))
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        method = self._method(query)
        self.api.asked.append(f"{method} {split.path}")
        instead = self._instead(method, split.path)
        if instead is not None:
            self._say(instead)
            return
        try:
            self._answer(method, split.path, query, body)
        except Refused as refused:
            self._say(Answer(refused.code, status(refused.code, refused.message)))

    def _method(self, query: dict[str, str]) -> str:
        if query.get("watch"):
            return "WATCH"
        return "TRY" if query.get("dryRun") else self.command

    def _instead(self, method: str, path: str) -> Answer | None:
        for wanted, pattern, answer in self.api.answers:
            if answer.left and wanted == method and pattern.search(path):
                answer.left -= 1
                return answer
        return None

    def _say(self, answer: Answer) -> None:
        self.send_response(answer.code)
        length = len(answer.body) + answer.cut
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = self.close_connection or answer.cut

    def _json(self, value: Any, code: int = 200) -> None:
        self._say(Answer(code, json.dumps(value).encode()))

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> None:
        if path == "/version":
            self._json({"gitVersion": "v1.31.0"})
            return
        found = _PATH.fullmatch(path)
        if found is None:
            raise Refused(404, "the server could not find the requested resource")
        api_version = found["core"] or found["group"]
        if found["plural"] is None:
            self._json(_resources(api_version))
            return
        kind = next(
            (k for k in KINDS if (k.api_version, k.plural) == (api_version, found["plural"])), None
        )
        if kind is None:
            raise Refused(404, "the server could not find the requested resource")
        place = (found["namespace"] or "", found["name"] or "")
        if method == "WATCH":
            self._watch(kind, place[0], query)
        elif found["part"] == "log":
            self._log(place[1], query)
        elif found["name"] is None and self.command == "GET":
            self._list(kind, place[0], query.get("labelSelector", ""))
        else:
            self._json(self._object(kind, place, query, body))

    def _object(self, kind: Kind, place: Place, query: dict[str, str], body: Any) -> Object:
        store, dry_run = self.api.store, "dryRun" in query
        if self.command == "GET":
            return store.get(kind, place)
        if self.command == "POST":
            return store.create(kind, (place[0], body["metadata"]["name"]), body, dry_run=dry_run)
        if self.command == "DELETE":
            store.delete(kind, place, (body or {}).get("preconditions") or {})
            return {"kind": "Status"}
        if "apply-patch" in self.headers["Content-Type"]:
            return store.apply(kind, place, body, dry_run=dry_run)
        return store.patch(kind, place, body, dry_run=dry_run)

    def _list(self, kind: Kind, namespace: str, selector: str) -> None:
        items, version = self.api.store.listing(kind, namespace, selector)
        self._json({"items": items, "metadata": {"resourceVersion": str(version)}})

    # --- answers that last ----------------------------------------------------------------------

    def _watch(self, kind: Kind, namespace: str, query: dict[str, str]) -> None:
        version = int(query["resourceVersion"])
        selector = query.get("labelSelector", "")
        with self._lasting() as generation:
            if version < self.api.store.oldest:
                expired = json.loads(status(410, "too old resource version"))
                self._chunk(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
                return
            for change in self._changes(version, generation):
                if (change.kind, change.namespace) != (kind, namespace):
                    continue
                if matches(change.item, selector):
                    told = {"type": change.type, "object": change.item}
                    self._chunk(json.dumps(told).encode() + b"\n")

    def _ended(self, generation: int) -> bool:
        return self.api.over or self.api.generation != generation

    def _changes(self, version: int, generation: int) -> Iterator[Change]:
        """What happens after a version, until the watches of a generation are ended."""
        store, seen = self.api.store, 0
        while True:
            with store.changed:
                while len(store.changes) == seen and not self._ended(generation):
                    store.changed.wait()
                fresh, seen = store.changes[seen:], len(store.changes)
                ended = self._ended(generation)
            yield from (change for change in fresh if change.version > version)
            if ended:
                return

    def _log(self, pod: str, query: dict[str, str]) -> None:
        lines = self.api.logs.get(pod)
        if lines is None:
            raise Refused(404, f'pods "{pod}" not found')
        with self._lasting() as generation:
            seen = max(0, len(lines) - _tail(query))
            while True:
                fresh = lines[seen:]
                seen += len(fresh)
                for line in fresh:
                    stamped = line if query.get("timestamps") else line.partition(b" ")[2]
                    self._chunk(stamped + b"\n")
                with self.api.store.changed:
                    while query.get("follow") and len(lines) == seen:
                        if self._ended(generation):
                            return
                        self.api.store.changed.wait()
                if len(lines) == seen:
                    return

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[int]:
        """Begin an answer that lasts as long as the generation that this gives."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        with self.api.store.changed:
            self.api.watching += 1
            generation = self.api.generation
            self.api.store.changed.notify_all()
        try:
            yield generation
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            with self.api.store.changed:
                self.api.watching -= 1
                self.api.store.changed.notify_all()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _tail(query: dict[str, str]) -> int:
    return int(query.get("tailLines") or 1_000_000)


def _resources(api_version: str) -> Object:
    kinds = [kind for kind in KINDS if kind.api_version == api_version]
    if not kinds:
        raise Refused(404, "the server could not find the requested resource")
    named = [
        {"kind": kind.kind, "name": kind.plural, "namespaced": kind.namespaced} for kind in kinds
    ]
    return {"resources": named}
