"""Whose namespace it is: the lease that the sync holds, held also while the objects change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from windsock.cluster.api import lease
from windsock.cluster.api.failures import NOT_FOUND, Refusal
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.sync.protocol import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Claim:
    """The right of one environment to change what is in a namespace.

    Args:
        cluster: With the namespace.
        client: Who this environment is; see `lease.identity`.
        take_over: Take it from whoever has it, once.
    """

    def __init__(self, cluster: lease.Leases, *, client: str, take_over: bool) -> None:
        self._namespace = cluster.namespace
        self._lease = lease.Lease(cluster, client=client)
        self._take_over = take_over

    def settle(self) -> bool:
        """It is ours: what is deployed later takes it from nobody.

        Returns:
            Whether it was still to be taken, because this account may not use leases: then only
            the store itself can be.
        """
        pending, self._take_over = self._take_over, False
        return pending

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it while things in the namespace change; the sync process goes on.

        Raises:
            EnvironmentFailure: Somebody else syncs to it, or has taken it over meanwhile.
        """
        lost: list[StoreBusy] = []
        keeper = lease.Keeper(
            self._lease,
            lost=lost.append,
            note=lambda _: None,  # The sync process tells of it.
        )
        try:
            keeper.take(take_over=self._take_over)
        except StoreBusy as busy:
            raise self._busy(busy) from None
        if keeper.holds:
            self.settle()  # Who has it from us since shall keep it.
        try:
            yield
        finally:
            keeper.leave()
        if lost:
            raise self._busy(lost[0])

    def _busy(self, busy: StoreBusy) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"{busy.message} (namespace {self._namespace})",
            "Use a namespace of your own (`--namespace`), or ask them and take it over: "
            "`--take-over`.",
        )

    @contextlib.contextmanager
    def held_for_removal(self) -> Iterator[Callable[[], None]]:
        """Hold it while everything is removed, and give it back in the end, whatever came of it.

        Yields:
            Raises EnvironmentFailure if somebody else has taken it over meanwhile: what is in the
            namespace from then on is theirs.

        Raises:
            StoreBusy: Somebody else syncs to it.
        """
        lost: list[StoreBusy] = []

        def check() -> None:
            if lost:
                raise EnvironmentFailure(
                    f"{lost[0].message}; what is left in namespace {self._namespace} is theirs",
                    "`invoke down --take-over` removes it all the same.",
                )

        keeper = lease.Keeper(self._lease, lost=lost.append, note=lambda _: None)
        try:
            with _without_a_namespace_too():
                keeper.take(take_over=self._take_over)
            yield check
        finally:
            keeper.release()

    def release(self) -> None:
        """Let others have it."""
        with contextlib.suppress(WindsockError):  # It expires by itself.
            self._lease.release()


@contextlib.contextmanager
def _without_a_namespace_too() -> Iterator[None]:
    """Where there is none any more, nobody can hold it, and nothing is left to remove."""
    try:
        yield
    except Refusal as error:
        if error.code != NOT_FOUND:
            raise
