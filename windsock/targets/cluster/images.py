"""The images of an environment's pods: how they get to the cluster, and their names there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster import okteto
from windsock.cluster.images import engine, image, recipe
from windsock.cluster.images.image import Images

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from windsock.cluster.images.delivery import SharedEngine, ToKind
    from windsock.cluster.images.named_registry import NamedRegistry
    from windsock.config import Settings
    from windsock.terminal.console import Console

USERS = {
    "postgres": ("postgres",),
    "airflow": ("api-server", "scheduler", "dag-processor", "triggerer"),
}
"""Image → the workloads that run it."""


class BuiltImages:
    """Images that this machine builds and a delivery brings to the nodes."""

    def __init__(self, settings: Settings, delivery: SharedEngine | ToKind | NamedRegistry) -> None:
        self._settings = settings
        self._delivery = delivery
        self._pinned: Images | None = None

    def names(self) -> Images:
        """The names that the manifests use, because the nodes know the images by them."""
        images = self._pinned or image.wanted(self._settings)
        return Images(
            airflow=self._delivery.reference(images.airflow),
            postgres=self._delivery.reference(images.postgres),
        )

    def pin(self) -> None:
        """Use the present names until the next `prepare`, even if the files change."""
        self._pinned = image.wanted(self._settings)

    def missing(self) -> Sequence[str]:
        """The images that this machine's Docker engine does not have."""
        wanted = image.wanted(self._settings)
        names = (wanted.airflow, wanted.postgres)
        with engine.connected() as client:
            return [name for name in names if not engine.has_image(client, name)]

    def prepare(self, console: Console) -> None:
        """Build the images that are missing, and deliver those that the cluster does not have."""
        with console.step("images") as step:
            self._pinned = images = image.ensure(self._settings, progress=step.progress)
            step.detail = "built" if images.built else "unchanged"
            done = self._delivery.deliver((images.airflow, images.postgres), step.progress)
            if done.detail:
                step.detail += f", {done.detail}"
        if done.warning:
            console.warning(done.warning)

    def sources(self) -> Sequence[Path]:
        """The files of the project that the images are built of."""
        return sorted({path for name in recipe.OWN for path in self._made_of(name)})

    def _made_of(self, name: str) -> set[Path]:
        return set(recipe.sources(self._settings, name).values())

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done when these files have changed; empty if nothing."""
        images = [name for name in recipe.OWN if self._made_of(name) & set(changed)]
        if not images:
            return ""
        pods = ", ".join(user for name in USERS if name in images for user in USERS[name])
        what = f"the {' and '.join(images)} image{'s' * (len(images) > 1)} must be rebuilt"
        workers = "; workers use it from the next task on" if "airflow" in images else ""
        return f"{what}, and {pods} restarted{workers}"


class BuiltByOkteto:
    """The images of a deployment, which `okteto build` has made."""

    def __init__(self, settings: Settings, *, deployment: okteto.Deployment) -> None:
        self._settings = settings
        self._deployment = deployment

    def names(self) -> Images:
        """The names that the manifests use."""
        return self._deployment.images

    def pin(self) -> None:
        """Nothing to do: the names are those of the deployment."""

    def missing(self) -> Sequence[str]:
        """None, because Okteto builds the images."""
        return ()

    def prepare(self, console: Console) -> None:
        """Warn if the images were built from other files than those of this project."""
        with console.step("images") as step:
            step.detail = self._deployment.images.airflow
        if self._deployment.recipe != okteto.recipe(image.wanted(self._settings)):
            console.warning(
                "Okteto built its images from other files than those of this project (docker/, "
                "requirements): `okteto deploy` builds and deploys yours"
            )

    def sources(self) -> Sequence[Path]:
        """None, because windsock builds nothing."""
        return ()

    def meaning(self, changed: Collection[Path]) -> str:
        """Nothing, because windsock builds nothing."""
        del changed
        return ""


PodImages = BuiltImages | BuiltByOkteto
