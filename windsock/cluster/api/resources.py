"""Which kinds a cluster serves, and where: asked for once, and only of the API groups in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.failures import NOT_FOUND, Refusal
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Where the API serves a kind.

    Attributes:
        api_version: For example `apps/v1`.
        kind: For example `Deployment`.
        plural: Its name in paths, for example `deployments`.
        namespaced: Whether its objects live in a namespace.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """The path of an object, or of all of them.

        Args:
            namespace: Of the object; not used where the kind has none.
            name: Of the object; empty means all.
        """
        within = f"/namespaces/{namespace}" if self.namespaced else ""
        tail = f"/{name}" if name else ""
        return f"{_root(self.api_version)}{within}/{self.plural}{tail}"


def _root(api_version: str) -> str:
    return f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"


class Catalogue:
    """The kinds of each API version, remembered as long as the connection lasts.

    Args:
        fetch: Gets the JSON at a path.
    """

    def __init__(self, fetch: Callable[[str], dict[str, Any]]) -> None:
        self._fetch = fetch
        self._known: dict[str, dict[str, Resource]] = {}

    def kinds(self, api_version: str) -> dict[str, Resource]:
        """Kind → where it is; nothing if the cluster does not have this API version."""
        if api_version not in self._known:
            self._known[api_version] = self._discover(api_version)
        return self._known[api_version]

    def find(self, api_version: str, kind: str) -> Resource:
        """Where a kind is served.

        Raises:
            EnvironmentFailure: It is not.
        """
        found = self.kinds(api_version).get(kind)
        if found is None:
            raise EnvironmentFailure(
                f"the cluster does not serve {kind} ({api_version})",
                "Its Kubernetes may be too old or too new for it; `kubectl api-resources` lists "
                "what it serves.",
            )
        return found

    def _discover(self, api_version: str) -> dict[str, Resource]:
        try:
            listed = self._fetch(_root(api_version))
        except Refusal as error:
            if error.code == NOT_FOUND:
                return {}
            raise
        return {
            item["kind"]: Resource(
                api_version=api_version,
                kind=item["kind"],
                plural=item["name"],
                namespaced=item["namespaced"],
            )
            for item in listed.get("resources") or []
            if "/" not in item["name"]  # a subresource, say pods/log
        }
