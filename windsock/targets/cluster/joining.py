"""A sync into what others, say Tilt, deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import OURS
from windsock.cluster.rollout import follow as rollout
from windsock.targets.cluster.target import ClusterTarget, ensure_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.targets.plan import UpStep
    from windsock.terminal.console import Console


class JoinedTarget(ClusterTarget):
    """Brings up only the sync: others deploy, and remove, what is in the cluster."""

    def prepare(self) -> Sequence[UpStep]:
        """Nothing to do: others have made the images."""
        return ()

    def apply_objects(self, console: Console) -> None:
        """Wait until what others applied is ready, and change nothing."""
        parts = self.parts
        with console.step("rolled out by others") as step:
            ensure_secret(parts)
            with parts.lease.for_change():
                parts.applied.clear()
                rollout.wait(
                    parts.cluster,
                    self._awaited(),
                    progress=step.progress,
                    timeout=parts.settings.up_timeout,
                )
        parts.applied.save_by_others()

    def _awaited(self) -> list[dict[str, Any]]:
        """What windsock would apply, with the Jobs of the namespace instead of its own.

        The Job of others has a name of theirs, and may have been deleted when it was done.
        """
        jobs = self.parts.cluster.items("batch/v1", "Job", selector=OURS)
        return [*(item for item in self.parts.objects() if item["kind"] != "Job"), *jobs]

    def end(self, console: Console) -> None:
        """Stop what runs on this machine."""
        self.leave(console)
