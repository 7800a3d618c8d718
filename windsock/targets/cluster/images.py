"""The images of an environment's pods: how they get to the cluster, and their names there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from windsock.cluster import okteto
from windsock.cluster.images import engine, image, recipe
from windsock.cluster.images.image import Images

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from windsock.cluster.images.delivery import Delivery
    from windsock.config import Settings
    from windsock.terminal.console import Console

USERS = {
    "postgres": ("postgres",),
    "airflow": ("api-server", "scheduler", "dag-processor", "triggerer"),
}
"""Image → the workloads that run it."""


class PodImages(Protocol):
    """The images of one environment."""

    def names(self) -> Images:
        """The names that the manifests use."""

    def pin(self) -> None:
        """Keep the names of now, even if the files change, until the next `prepare`."""

    def missing(self) -> Sequence[str]:
        """The images that `prepare` has to build."""

    def prepare(self, console: Console) -> None:
        """Bring the images to where the cluster finds them."""

    def sources(self) -> Sequence[Path]:
        """The files of the project that the images are built of."""

    def meaning(self, changed: Collection[Path]) -> str:
        """What must be done when these files have changed; empty if nothing."""


class BuiltImages:
    """Images that this machine builds and a delivery brings to the nodes.

    Args:
        settings: Of the environment.
        delivery: To its cluster.
    """

    def __init__(self, settings: Settings, delivery: Delivery) -> None:
        self._settings = settings
        self._delivery = delivery
        self._pinned: Images | None = None

    def names(self) -> Images:
        """The names that the manifests use: the nodes know the images by them."""
        images = self._pinned or image.wanted(self._settings)
        return Images(
            airflow=self._delivery.reference(images.airflow),
            postgres=self._delivery.reference(images.postgres),
        )

    def pin(self) -> None:
        """Keep the names of now: they are deployed again if a change of the files cannot be."""
        self._pinned = image.wanted(self._settings)

    def missing(self) -> Sequence[str]:
        """The images that this machine's Docker engine does not have."""
        wanted = image.wanted(self._settings)
        with engine.connected() as client:
            names = (wanted.airflow, wanted.postgres)
            return [name for name in names if not engine.has_image(client, name)]

    def prepare(self, console: Console) -> None:
        """Build them if what goes into them changed, and deliver what is not there."""
        with console.step("images") as step:
            self._pinned = image.ensure(self._settings, progress=step.progress)
            step.detail = "built" if self._pinned.built else "unchanged"
            done = self._delivery.deliver(
                (self._pinned.airflow, self._pinned.postgres), step.progress
            )
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
    """Images that `okteto build` has made.

    Args:
        settings: Of the environment.
        deployment: What Okteto has deployed.
    """

    def __init__(self, settings: Settings, *, deployment: okteto.Deployment) -> None:
        self._settings = settings
        self._deployment = deployment

    def names(self) -> Images:
        """The names that the manifests use."""
        return self._deployment.images

    def pin(self) -> None:
        """Nothing to do: the names are those of the deployment."""

    def missing(self) -> Sequence[str]:
        """None: Okteto builds them."""
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
        """No file of the project: windsock builds nothing."""
        return ()

    def meaning(self, changed: Collection[Path]) -> str:
        """Nothing must be done: windsock builds nothing."""
        del changed
        return ""
