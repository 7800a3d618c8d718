"""The images that an environment's pods run: where they come from, and their names there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from windsock.cluster import okteto
from windsock.cluster.images import image, recipe
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
        """What the manifests call them."""

    def keep(self) -> None:
        """Stay with those of now, whatever becomes of the files, until the next `prepare`."""

    def prepare(self, console: Console) -> None:
        """Get them to where the cluster finds them."""

    def sources(self) -> Sequence[Path]:
        """The files of the project that they are built of; see `Target.sources`."""

    def meaning(self, changed: Collection[Path]) -> str:
        """What a change of these files means; see `Target.meaning`."""


class BuiltImages:
    """Images that this machine builds and a delivery brings to the nodes.

    Args:
        settings: Of the environment.
        delivery: To its cluster.
    """

    def __init__(self, settings: Settings, delivery: Delivery) -> None:
        self._settings = settings
        self._delivery = delivery
        self._kept: Images | None = None

    def names(self) -> Images:
        """What the nodes call them."""
        images = self._kept or image.wanted(self._settings)
        return Images(
            airflow=self._delivery.reference(images.airflow),
            postgres=self._delivery.reference(images.postgres),
        )

    def keep(self) -> None:
        """Deploy these again if a later change of the files cannot be."""
        self._kept = image.wanted(self._settings)

    def prepare(self, console: Console) -> None:
        """Build them if what goes into them changed, and deliver what is not there."""
        with console.step("images") as step:
            self._kept = image.ensure(self._settings, progress=step.progress)
            step.detail = "built" if self._kept.built else "unchanged"
            done = self._delivery.deliver((self._kept.airflow, self._kept.postgres), step.progress)
            if done.images and self._delivery.destination:
                step.detail += f", pushed to {self._delivery.destination}"
        if done.warning:
            console.warning(done.warning)

    def sources(self) -> Sequence[Path]:
        """See `PodImages`."""
        return sorted({path for name in recipe.OWN for path in self._made_of(name)})

    def _made_of(self, name: str) -> set[Path]:
        return set(recipe.sources(self._settings, name).values())

    def meaning(self, changed: Collection[Path]) -> str:
        """See `PodImages`."""
        images = [name for name in recipe.OWN if self._made_of(name) & set(changed)]
        if not images:
            return ""
        pods = ", ".join(user for name in USERS if name in images for user in USERS[name])
        what = f"the {' and '.join(images)} image{'s' * (len(images) > 1)} must be rebuilt"
        workers = "; workers use it from the next task on" if "airflow" in images else ""
        return f"{what}, and {pods} restarted{workers}"


class BuiltByOkteto:
    """Images that `okteto build` has made; nothing of them is built from here.

    Args:
        settings: Of the environment.
        deployment: What Okteto has deployed.
    """

    def __init__(self, settings: Settings, *, deployment: okteto.Deployment) -> None:
        self._settings = settings
        self._deployment = deployment

    def names(self) -> Images:
        """See `PodImages`."""
        return self._deployment.images

    def keep(self) -> None:
        """See `PodImages`: they are those of the deployment anyway."""

    def prepare(self, console: Console) -> None:
        """Only say whether they are those of the files here."""
        with console.step("images") as step:
            step.detail = self._deployment.images.airflow
        if self._deployment.recipe != okteto.recipe(image.wanted(self._settings)):
            console.warning(
                "the images there were built from other files than those here (docker/, "
                "requirements): `okteto deploy` builds and deploys yours"
            )

    def sources(self) -> Sequence[Path]:
        """See `PodImages`: nothing here is looked at while saves are followed."""
        return ()

    def meaning(self, changed: Collection[Path]) -> str:
        """See `PodImages`: nothing that changes here is built from here."""
        del changed
        return ""
