"""Airflow in a namespace of Okteto: Okteto builds and deploys it, saves go into what runs there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.cluster import dev_mode, okteto
from windsock.cluster.api import workloads
from windsock.cluster.api.client import OURS
from windsock.cluster.images import image
from windsock.cluster.manifests import render as manifests
from windsock.targets.cluster import ClusterTarget
from windsock.targets.images import BuiltByOkteto

if TYPE_CHECKING:
    from windsock.model import Environment
    from windsock.targets.images import PodImages
    from windsock.terminal.console import Console


class OktetoTarget(ClusterTarget):
    """A cluster target whose images come from Okteto, and whose namespace belongs to it.

    Everybody who uses the namespace applies the same objects: what is this machine's own (a port,
    a folder) is in none of them.
    """

    @cached_property
    def _deployment(self) -> okteto.Deployment:
        return okteto.deployment(
            self._inherited, self._cluster, wanted=image.wanted(self._settings)
        )

    @cached_property
    def _images(self) -> PodImages:
        return BuiltByOkteto(self._settings, deployment=self._deployment)

    @property
    def _base_url(self) -> str:
        return self._deployment.url or self._url

    @property
    def _told_dags_folder(self) -> str:
        return self._settings.dags_folder.name

    def objects(self, *, tilt: bool = False) -> list[dict[str, Any]]:
        """See `ClusterTarget`; with a note of what the images were built from."""
        objects = super().objects(tilt=tilt)
        for item in objects:
            if item["kind"] == "ConfigMap" and item["metadata"]["name"] == manifests.SETTINGS:
                item["metadata"]["annotations"] = {okteto.RECIPE: self._deployment.recipe}
        return objects

    def deploy(self, console: Console) -> None:
        """See `Target`."""
        super().deploy(console)
        if self._deployment.url:
            console.line(f"UI for all who may see the namespace: {self._deployment.url}")
        for name in sorted(self._replaced):
            console.warning(
                f"the {name} is not there: an `okteto up` has taken its place, until `okteto down`"
            )

    @cached_property
    def _replaced(self) -> set[str]:
        """The components whose place an `okteto up` has taken."""
        found = self._cluster.items("apps/v1", "Deployment", selector=OURS)
        return {workloads.component_of(item) for item in found if dev_mode.is_replaced(item)}

    def _health(self, environment: Environment) -> dict[str, bool]:
        """See `ClusterTarget`; for what `okteto up` has replaced nobody waits."""
        health = super()._health(environment)
        if all(health.values()):
            return health
        return {name: good for name, good in health.items() if name not in self._replaced}

    def end(self, console: Console) -> None:
        """See `Target`: what Okteto deployed goes on, `okteto destroy` removes it."""
        self.leave(console)
