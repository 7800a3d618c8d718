"""Airflow in a namespace of Okteto: Okteto builds and deploys it, saves go into what runs there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from windsock.cluster import image, manifests, okteto
from windsock.targets.cluster import ClusterTarget

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from windsock.console import Console


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

    def _wanted_images(self) -> image.Images:
        return self._deployment.images

    @property
    def _base_url(self) -> str:
        return self._deployment.url or self._url

    @property
    def _told_dags_folder(self) -> str:
        return self._settings.dags_folder.name

    def objects(self) -> list[dict[str, Any]]:
        """See `ClusterTarget`; with a note of what the images were built from."""
        objects = super().objects()
        for item in objects:
            if item["kind"] == "ConfigMap" and item["metadata"]["name"] == manifests.SETTINGS:
                item["metadata"]["annotations"] = {okteto.RECIPE: self._deployment.recipe}
        return objects

    def _prepare_images(self, console: Console) -> None:
        """Okteto has built them; only say whether they are those of the files here."""
        with console.step("images") as step:
            found = self._deployment
            step.detail = found.images.airflow
        if found.recipe != okteto.recipe(image.wanted(self._settings)):
            console.warn(
                "the images there were built from other files than those here (docker/, "
                "requirements): `okteto deploy` builds and deploys yours"
            )

    def sources(self) -> Sequence[Path]:
        """See `Target`; Okteto builds, so nothing here is looked at while saves are followed."""
        return ()

    def meaning(self, changed: Collection[Path]) -> str:
        """See `Target`; nothing that changes here is built from here."""
        del changed
        return ""

    def deploy(self, console: Console) -> None:
        """See `Target`."""
        super().deploy(console)
        if self._deployment.url:
            console.line(f"UI for all who may see the namespace: {self._deployment.url}")

    def end(self, console: Console) -> None:
        """See `Target`: what Okteto deployed goes on, `okteto destroy` removes it."""
        self.leave(console)
