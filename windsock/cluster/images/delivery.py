"""How images get from this machine's Docker to where a cluster's nodes find them.

The tag of an image is a digest of what it is made of. So "did it change" is one question, and each
delivery asks it of the place that images go to: is there an image of this name?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from windsock.cluster.images import image
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windsock.cluster.images.registry import KindRegistry
    from windsock.cluster.kind import Kind


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What a delivery did.

    Attributes:
        images: Those that were sent; the others were there.
        warning: What a person should know about it; empty if nothing.
    """

    images: Sequence[str] = ()
    warning: str = ""


class Delivery(Protocol):
    """The way of images to one cluster."""

    destination: str
    """Where they are sent, for a person to read; empty if the user did not choose it."""

    def reference(self, image: str) -> str:
        """What the nodes call an image of this machine."""

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Send the images that are not there.

        Args:
            images: Tags that Docker has.
            progress: Gets what is done.

        Raises:
            EnvironmentFailure: The place cannot be reached, or takes nothing.
        """


class SharedEngine:
    """For a cluster whose nodes use this machine's Docker engine: nothing is sent."""

    destination = ""

    def reference(self, image: str) -> str:
        """The image's own name."""
        return image

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Send nothing."""
        del images, progress
        return Delivered()


class ToKind:
    """To the nodes of a kind cluster: through its registry, or whole if that cannot be had.

    Args:
        kind: The cluster.
        registry: The cluster's own.
        on_nodes: Gives the names of the images that the nodes have.
    """

    destination = ""

    def __init__(
        self, *, kind: Kind, registry: KindRegistry, on_nodes: Callable[[], Collection[str]]
    ) -> None:
        self._kind = kind
        self._registry = registry
        self._on_nodes = on_nodes
        self.reference = registry.reference

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Send what the nodes lack, by layers where that can be."""
        there = self._on_nodes()
        missing = [name for name in images if self.reference(name) not in there]
        if not missing:
            return Delivered()
        try:
            self._registry.deliver(missing, progress)
        except (EnvironmentFailure, DeadlineExceeded) as error:
            with self._registry.named(missing) as names:
                self._kind.load(names, save=image.save, progress=progress)
            warning = f"images were loaded whole: {error.message}. {error.hint}"
            return Delivered(images=missing, warning=" ".join(warning.split()))
        return Delivered(images=missing)
