"""The lease of a namespace, while a command of ours changes what is in the namespace.

It is the same lease that the sync process has while it syncs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from windsock.cluster.api import lease
from windsock.cluster.api.failures import NOT_FOUND, Refusal
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.sync.protocol import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windsock.cluster.api.client import Cluster


class NamespaceLease:
    """The right of one environment to change what is in a namespace.

    Args:
        cluster: With the namespace.
        client: The `lease.identity` of this environment.
        take_over: Take the lease from whoever has it, once.
    """

    def __init__(self, cluster: Cluster, *, client: str, take_over: bool) -> None:
        self._namespace = cluster.namespace
        self._lease = lease.Lease(cluster, client=client)
        self._take_over = take_over

    def use_take_over(self) -> bool:
        """Use up the permission to take the lease from somebody else; it is for one time.

        Returns:
            Whether the permission was unused. It is unused where this account may not use leases:
            then only the store itself can be taken over.
        """
        unused, self._take_over = self._take_over, False
        return unused

    @contextlib.contextmanager
    def for_change(self) -> Iterator[None]:
        """Have the lease while objects change; the sync process goes on with it.

        Raises:
            EnvironmentFailure: Somebody else syncs, or has taken the lease over meanwhile.
        """
        renewer, lost = self._renewer()
        try:
            renewer.take(take_over=self._take_over)
        except StoreBusy as busy:
            raise self._busy(busy) from None
        if renewer.renews:
            self.use_take_over()
        try:
            yield
        finally:
            renewer.stop()
        if lost:
            raise self._busy(lost[0])

    def _renewer(self) -> tuple[lease.LeaseRenewer, list[StoreBusy]]:
        """A renewer, and a list that gets the error when somebody else has taken the lease."""
        lost: list[StoreBusy] = []
        # That the account may not use leases is a note of the sync process.
        return lease.LeaseRenewer(self._lease, lost=lost.append, note=lambda _: None), lost

    def _busy(self, busy: StoreBusy) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"{busy.message} (namespace {self._namespace})",
            "Use a namespace of your own (`--namespace`), or ask them and take it over: "
            "`--take-over`.",
        )

    @contextlib.contextmanager
    def for_removal(self) -> Iterator[Callable[[], None]]:
        """Have the lease while everything is removed, and release it in any case.

        Yields:
            A check that raises EnvironmentFailure if somebody else has taken the lease over
            meanwhile: from then on the objects in the namespace are theirs.

        Raises:
            StoreBusy: Somebody else syncs to the namespace.
        """
        renewer, lost = self._renewer()

        def check() -> None:
            if lost:
                raise EnvironmentFailure(
                    f"{lost[0].message}; what remains in namespace {self._namespace} is theirs",
                    "`invoke down --take-over` removes it all the same.",
                )

        try:
            renewer.take(take_over=self._take_over)
        except Refusal as error:
            if error.code != NOT_FOUND:  # Without a namespace there is no lease.
                raise
        try:
            yield check
        finally:
            renewer.release()

    def release(self) -> None:
        """Let others have the lease."""
        with contextlib.suppress(WindsockError):  # It expires by itself.
            self._lease.release()
