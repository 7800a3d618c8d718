"""The target `okteto`: Okteto builds and deploys Airflow, and windsock syncs into what runs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.cluster import dev_mode, okteto
from windsock.cluster.api import workloads
from windsock.cluster.api.client import OURS
from windsock.cluster.images import image
from windsock.cluster.manifests import render as manifests
from windsock.targets.cluster.images import BuiltByOkteto
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget

if TYPE_CHECKING:
    from windsock.targets.cluster.images import PodImages
    from windsock.terminal.console import Console


class OktetoParts(Parts):
    """The parts of an environment whose images come from Okteto.

    Everybody who uses the namespace applies the same objects, so none of them may depend on one
    machine: on its port, or its folders.
    """

    @cached_property
    def deployment(self) -> okteto.Deployment:
        """The images and the address of what Okteto has deployed."""
        return okteto.deployment(self.variables, self.cluster, wanted=image.wanted(self.settings))

    @cached_property
    def images(self) -> PodImages:
        """The images of the pods."""
        return BuiltByOkteto(self.settings, deployment=self.deployment)

    @property
    def base_url(self) -> str:
        """Where the links in Airflow's UI lead."""
        return self.deployment.url or self.url

    @property
    def shown_dags_folder(self) -> str:
        """The DAG folder as tracebacks name it."""
        return self.settings.dags_folder.name

    def objects(self, *, tilt: bool = False) -> list[dict[str, Any]]:
        """All objects that are applied, with a note of what the images were built from."""
        objects = super().objects(tilt=tilt)
        metadata = manifests.settings_of(objects)["metadata"]
        metadata["annotations"] = {okteto.RECIPE: self.deployment.recipe}
        return objects

    @cached_property
    def not_waited_for(self) -> set[str]:
        """The components whose place an `okteto up` has taken."""
        found = self.cluster.items("apps/v1", "Deployment", selector=OURS)
        return {workloads.component_of(item) for item in found if dev_mode.is_replaced(item)}


class OktetoTarget(ClusterTarget):
    """Brings the sync up for what Okteto deployed."""

    parts: OktetoParts

    def apply_objects(self, console: Console) -> None:
        """Apply what changed, and show the address of the UI for all users of the namespace."""
        super().apply_objects(console)
        if url := self.parts.deployment.url:
            console.line(f"UI for all who may see the namespace: {url}")
        for name in sorted(self.parts.not_waited_for):
            console.warning(
                f"the {name} is not there: an `okteto up` has taken its place, until `okteto down`"
            )

    def end(self, console: Console) -> None:
        """Stop what runs on this machine; `okteto destroy` removes what Okteto deployed."""
        self.leave(console)
