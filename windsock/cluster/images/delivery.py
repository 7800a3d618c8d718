"""How images get from this machine's Docker to where a cluster's nodes find them.

The tag of an image is a digest of what it is made of. So "did it change" is one question, and each
delivery asks it of the place that images go to: is there an image of this name?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from windsock.cluster.images import image
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from windsock.cluster.images.registry import KindRegistry
    from windsock.cluster.kind import Kind


class Delivered(NamedTuple):
    """What a delivery did, for a person to read."""

    detail: str = ""
    """Where images were pushed; empty if nothing was, or if the user chose no registry."""
    warning: str = ""


class SharedEngine:
    """For a cluster whose nodes use this machine's Docker engine: nothing is sent."""

    def reference(self, image: str) -> str:
        """The image's own name."""
        return image

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Send nothing."""
        del images, progress
        return Delivered()


@dataclass(frozen=True, kw_only=True)
class ToKind:
    """To the nodes of a kind cluster: through its registry, or whole if the registry fails."""

    kind: Kind
    registry: KindRegistry
    on_nodes: Callable[[], Collection[str]]
    """Returns the names of the images that the nodes have."""

    def reference(self, image: str) -> str:
        """The name by which the nodes know an image of this machine."""
        return self.registry.reference(image)

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        """Send those images of Docker that the nodes lack.

        Raises:
            EnvironmentFailure: kind refuses the images, too.
        """
        present = self.on_nodes()
        missing = [name for name in images if self.reference(name) not in present]
        if not missing:
            return Delivered()
        try:
            self.registry.deliver(missing, progress)
        except (EnvironmentFailure, DeadlineExceeded) as error:
            with self.registry.named(missing) as names:
                self.kind.load(names, save=image.save, progress=progress)
            warning = f"images were loaded whole: {error.message}. {error.hint}"
            return Delivered(warning=" ".join(warning.split()))
        return Delivered()
