"""The images that an environment's pods run: where they come from, and their names there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from windsock.cluster import okteto
from windsock.cluster.images import image, recipe
from windsock.cluster.images.image import Images
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from windsock.cluster.images.named_registry import NamedRegistry
    from windsock.cluster.images.registry import Registry
    from windsock.cluster.kind import Kind
    from windsock.config import Settings
    from windsock.terminal.console import Console, Step

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


class BuiltHere:
    """Images of this machine's Docker engine, for a cluster that uses the same.

    Args:
        settings: Of the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: Images | None = None

    def names(self) -> Images:
        """See `PodImages`."""
        return self._kept or image.wanted(self._settings)

    def keep(self) -> None:
        """See `PodImages`: what is deployed again if a later change of the files cannot be."""
        self._kept = image.wanted(self._settings)

    def prepare(self, console: Console) -> None:
        """Build them if what goes into them changed."""
        with console.step("images") as step:
            self._kept = image.ensure(self._settings, progress=step.progress)
            step.detail = "built" if self._kept.built else "unchanged"
            remark = self._deliver(self._kept, step)
        if remark:
            console.warning(remark)

    def _deliver(self, images: Images, step: Step) -> str:
        """Bring them to where the nodes find them; returns what there is to say about it."""
        del images, step
        return ""  # The nodes use this very engine.

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


class PushedToRegistry(BuiltHere):
    """Images of this machine, pushed to a registry from which the nodes pull them.

    Args:
        settings: Of the environment.
        registry: That both reach.
    """

    def __init__(self, settings: Settings, *, registry: NamedRegistry) -> None:
        super().__init__(settings)
        self._registry = registry

    def names(self) -> Images:
        """See `PodImages`; the nodes know them by the registry's name."""
        return _renamed(super().names(), self._registry.reference)

    def _deliver(self, images: Images, step: Step) -> str:
        """Push what the registry lacks."""
        pushed = self._registry.deliver((images.airflow, images.postgres), step.progress)
        step.detail += f", pushed to {self._registry.address}" if pushed else ""
        return ""


class DeliveredToKind(BuiltHere):
    """Images of this machine, brought to the nodes of a kind cluster.

    Args:
        settings: Of the environment.
        kind: The cluster.
        registry: Beside it; the nodes pull from it.
        on_nodes: The names of the images that the nodes have.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        kind: Kind,
        registry: Registry,
        on_nodes: Callable[[], Collection[str]],
    ) -> None:
        super().__init__(settings)
        self._kind = kind
        self._registry = registry
        self._on_nodes = on_nodes

    def names(self) -> Images:
        """See `PodImages`; the nodes know them by the registry's name."""
        return _renamed(super().names(), self._registry.reference)

    def _deliver(self, images: Images, step: Step) -> str:
        """Bring what the nodes lack, by layers where that can be."""
        there = self._on_nodes()
        missing = [
            name
            for name in (images.airflow, images.postgres)
            if self._registry.reference(name) not in there
        ]
        if not missing:
            return ""
        try:
            self._registry.deliver(missing, step.progress)
        except (EnvironmentFailure, DeadlineExceeded) as error:
            with self._registry.named(missing) as names:
                self._kind.load(names, save=image.save, progress=step.progress)
            return " ".join(f"images were loaded whole: {error.message}. {error.hint}".split())
        return ""


def _renamed(images: Images, name: Callable[[str], str]) -> Images:
    return Images(airflow=name(images.airflow), postgres=name(images.postgres), built=images.built)


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
