"""A namespace of a cluster: objects are plain dicts, errors are `WindsockError`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.connection import READ_SECONDS, Connection, LineStream, Object
from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, NOT_FOUND, Refusal
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIELD_MANAGER = "windsock"
MANAGED = {"app.kubernetes.io/managed-by": "windsock", "app.kubernetes.io/part-of": "windsock"}
OURS = ",".join(f"{key}={value}" for key, value in MANAGED.items())
"""Label selector of everything that windsock applies."""

DEFAULT_REGISTRY = "docker.io/library/"
"""What containerd puts before the name of an image that names no registry."""

PAGE = 500

WATCH_GRACE_SECONDS = 15.0
"""A watch that lasts longer than this after its end counts as a broken connection."""


class Cluster:
    """A namespace of a cluster. Safe in threads.

    Args:
        connection: To the cluster.
        namespace: Of the environment.
        patience: Seconds of silence after which a request fails.
    """

    def __init__(
        self, connection: Connection, *, namespace: str, patience: float = READ_SECONDS
    ) -> None:
        self.connection = connection
        self.namespace = namespace
        self.context = connection.context
        self.server = connection.server
        self.request = partial(connection.request, timeout=patience)
        self._kinds: dict[str, dict[str, Object]] = {}

    @classmethod
    def connect(cls, *, context: str, namespace: str, kubeconfig: str | None) -> Cluster:
        """Read the kubeconfig, as `Connection.open` does.

        Raises:
            ConfigurationError: There is no such kubeconfig or context, or it cannot be used.
        """
        connection = Connection.open(context=context, kubeconfig=kubeconfig)
        return cls(connection, namespace=namespace)

    def within(self, seconds: float) -> Cluster:
        """The same namespace with another patience, in seconds."""
        return Cluster(self.connection, namespace=self.namespace, patience=seconds)

    # --- objects ------------------------------------------------------------------------------

    def served(self, api_versions: Iterable[str]) -> set[tuple[str, str]]:
        """All (API version, kind) that the cluster serves of these API versions."""
        return {(version, kind) for version in api_versions for kind in self._discover(version)}

    def namespaced(self, api_version: str, kind: str) -> bool:
        """Whether the objects of a kind live in a namespace."""
        return bool(self._find(api_version, kind)["namespaced"])

    def path(self, api_version: str, kind: str, name: str = "") -> str:
        """The path of an object in our namespace, or of all of a kind.

        Raises:
            EnvironmentFailure: The cluster does not serve this kind.
        """
        found = self._find(api_version, kind)
        within = f"/namespaces/{self.namespace}" if found["namespaced"] else ""
        return f"{_root(api_version)}{within}/{found['name']}" + (f"/{name}" if name else "")

    def _path_of(self, item: Object) -> str:
        return self.path(item["apiVersion"], item["kind"], item["metadata"]["name"])

    def _find(self, api_version: str, kind: str) -> Object:
        """How the cluster lists a kind: with its name in paths, and whether it is namespaced."""
        found = self._discover(api_version).get(kind)
        if found is None:
            raise EnvironmentFailure(
                f"the cluster does not serve {kind} ({api_version})",
                "Its Kubernetes may be too old or too new for it; `kubectl api-resources` lists "
                "what it serves.",
            )
        return found

    def _discover(self, api_version: str) -> dict[str, Object]:
        """Kind → how the cluster lists it; empty if the cluster lacks this API version."""
        if api_version not in self._kinds:
            try:
                listed = self.request("GET", _root(api_version), doing="list its kinds")
            except Refusal as error:
                if error.code != NOT_FOUND:
                    raise
                listed = {}
            self._kinds[api_version] = {
                item["kind"]: item
                for item in listed.get("resources") or []
                if "/" not in item["name"]  # a subresource, say pods/log
            }
        return self._kinds[api_version]

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        """An object, or None if there is none."""
        try:
            return self.request(
                "GET", self.path(api_version, kind, name), doing=f"show {kind} {name}"
            )
        except Refusal as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def items(self, api_version: str, kind: str, *, selector: str = "") -> list[Object]:
        """All objects of a kind with these labels; kind and API version filled in."""
        return self.listing(api_version, kind, selector=selector)[0]

    def listing(
        self, api_version: str, kind: str, *, selector: str = ""
    ) -> tuple[list[Object], str]:
        """As `items`, with the resource version from which a watch goes on."""
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = self.request(
                "GET", self.path(api_version, kind), query=query, doing=f"list {kind}"
            )
            found += [
                {"apiVersion": api_version, "kind": kind, **item} for item in page["items"] or []
            ]
            if not page["metadata"].get("continue"):
                return found, str(page["metadata"].get("resourceVersion", ""))
            query = {**query, "continue": page["metadata"]["continue"]}

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        """Create an object that does not exist yet (or, in a dry run, see whether that works)."""
        return self.request(
            "POST",
            self.path(item["apiVersion"], item["kind"]),
            query=_writing(dry_run=dry_run),
            body=item,
            doing=f"create {name_of(item)}",
        )

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        """Apply an object on the server; returns it as it is then (or would be)."""
        return self.request(
            "PATCH",
            self._path_of(item),
            query={"force": "true", **_writing(dry_run=dry_run)},
            body=item,
            content_type="application/apply-patch+yaml",  # which JSON is, too
            doing=f"apply {name_of(item)}",
        )

    def patch(self, item: Object, change: Object) -> Object:
        """Merge a change into an object that exists."""
        return self.request(
            "PATCH",
            self._path_of(item),
            query=_writing(),
            body=change,
            content_type="application/merge-patch+json",
            doing=f"change {name_of(item)}",
        )

    def delete(self, item: Object, *, unchanged: bool = False) -> bool:
        """Delete an object, and after it what it owns; False if it was gone already.

        Args:
            item: The object.
            unchanged: Delete it only if nobody has changed it since it was read; else False.
        """
        options: Object = {"propagationPolicy": "Background"}
        if uid := item["metadata"].get("uid"):
            options["preconditions"] = {"uid": uid}  # not another one of the same name
            if unchanged:
                options["preconditions"]["resourceVersion"] = item["metadata"]["resourceVersion"]
        try:
            self.request(
                "DELETE",
                self._path_of(item),
                body=options,
                doing=f"delete {name_of(item)}",
            )
        except Refusal as error:
            if error.code in {NOT_FOUND, CONFLICT}:
                return False
            raise
        return True

    def watch(
        self, api_version: str, kind: str, *, version: str, selector: str, seconds: int
    ) -> LineStream:
        """Follow the changes of a kind after a `listing`; each line is one JSON event."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        return self.connection.stream(
            self.path(api_version, kind),
            query=query | ({"labelSelector": selector} if selector else {}),
            doing=f"watch {kind}",
            silence=seconds + WATCH_GRACE_SECONDS,
        )

    # --- the cluster itself -------------------------------------------------------------------

    def version(self) -> str:
        """The version of the cluster, for example `1.34.0`."""
        return str(self.request("GET", "/version", doing="show its version")["gitVersion"])[1:]

    def node_images(self) -> set[str]:
        """The images that every node has, as manifests name them; none if we may not look."""
        try:
            nodes = self.items("v1", "Node")
        except Refusal as error:
            if error.code == FORBIDDEN:
                return set()
            raise
        of_nodes = [
            {
                name.removeprefix(DEFAULT_REGISTRY)
                for image in node["status"].get("images") or []
                for name in image.get("names") or []
            }
            for node in nodes
        ]
        return set.intersection(*of_nodes) if of_nodes else set()

    def ensure_namespace(self) -> None:
        """Create the namespace if there is none.

        An account of one namespace may often neither see nor create it: then it is enough that
        the account may look into it.

        Raises:
            EnvironmentFailure: There is none, and this account may not create it.
        """
        try:
            found = self.get("v1", "Namespace", self.namespace)
        except Refusal as error:
            if error.code != FORBIDDEN:
                raise
            self.items("v1", "ConfigMap")
            return
        if found is None:
            self._create_namespace()
        elif found["status"].get("phase") == "Terminating":
            raise EnvironmentFailure(
                f"namespace {self.namespace} is being deleted",
                "Try again when it is gone: `kubectl get namespace`.",
            )

    def _create_namespace(self) -> None:
        metadata = {"name": self.namespace, "labels": MANAGED}
        try:
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        except Refusal as error:
            if error.code == FORBIDDEN:
                raise EnvironmentFailure(
                    f"there is no namespace {self.namespace}, and this account may not make one",
                    f"Ask for it (`kubectl create namespace {self.namespace}`), or name one of "
                    f"yours with `--namespace`. The cluster's answer: {error.words}",
                ) from error
            if error.code != CONFLICT:  # somebody else has just created it
                raise


def _writing(*, dry_run: bool = False) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def name_of(item: Mapping[str, Any]) -> str:
    """How a person calls an object, for example `Deployment airflow-scheduler`."""
    return f"{item['kind']} {item['metadata']['name']}"
