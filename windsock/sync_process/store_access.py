"""Which session may write a store, and how it reaches the store's agent.

One session at a time writes a store. Two things make sure of that:

- The *lock* is a file of the store. A running agent has it, so it decides between sessions whose
  agents run on one file system. An agent that loses the lock ends at once.
- The *lease* is an object of the namespace. It is taken before an agent is started there and
  renewed while one runs, so it decides between machines, also while the pod is being replaced.

A session with the lease takes the lock from any other agent: that is an earlier agent of ours, or
its session has lost the lease. Without a lease (on this machine, or where the account may not use
leases) the lock decides alone, and is taken over only if a person asks for that. A session that is
too late gets `StoreBusy`, which names the other one.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from windsock import events
from windsock.errors import EnvironmentFailure
from windsock.store.agent import Options
from windsock.sync.protocol import StoreBusy
from windsock.sync.session import SyncSession
from windsock.sync.times import SyncTimes
from windsock.sync.transport import Transport, local_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.cluster.api.client import Cluster
    from windsock.sync.scan import Difference, Tree
    from windsock.sync_process.settings import ServiceSettings


class LocalStore:
    """A store on this machine, without a lease."""

    client = ""

    def __init__(self, options: Options) -> None:
        self._options = options

    def connect(self) -> Transport:
        """Start an agent."""
        return local_transport(self._options)

    def has_lease(self) -> bool:
        """There is none."""
        return False

    def close(self) -> None:
        """There is nothing to give back."""


class PodStore:
    """A store in a namespace, as long as its lease is ours.

    Args:
        cluster: With the namespace.
        start: Starts an agent there.
        client: Our name.
        take_over: Take the lease from somebody else.
        lost: Called when somebody else has taken the lease.
        note: Called when this account may not use leases.
        pause: Waits so many seconds, before a lease that looks expired is taken.
    """

    def __init__(
        self,
        cluster: Cluster,
        start: Callable[[Cluster], Transport],
        *,
        client: str,
        take_over: bool,
        lost: Callable[[StoreBusy], None],
        note: Callable[[str], None],
        pause: Callable[[float], None],
    ) -> None:
        from windsock.cluster.api.lease import ANSWER_SECONDS, Lease, LeaseRenewer  # noqa: PLC0415 - heavy

        self.client = client
        self._start = start
        self._take_over = take_over
        self._cluster = cluster.within(ANSWER_SECONDS)
        lease = Lease(self._cluster, client=client, pause=pause)
        self._renewer = LeaseRenewer(lease, lost=lost, note=note)

    def connect(self) -> Transport:
        """Take the lease, and start an agent.

        Raises:
            StoreBusy: Somebody else syncs.
        """
        # After a cut the other idle connections may be dead, too.
        self._cluster.connection.drop_idle()
        self._renewer.take(take_over=self._take_over)
        self._take_over = False
        return self._start(self._cluster)

    def has_lease(self) -> bool:
        """Whether the lease is still ours, after the start of the agent.

        Raises:
            StoreBusy: Somebody has just taken it.
        """
        return self._renewer.confirm()

    def close(self) -> None:
        """Give the lease back."""
        self._renewer.release()


class SyncAttempt:
    """One session, until `stop` or until somebody else syncs; the arguments are its own."""

    def __init__(
        self,
        settings: ServiceSettings,
        on_event: Callable[[events.Event], None],
        on_snapshot: Callable[[Tree, Difference], None],
        *,
        take_over: bool,
    ) -> None:
        self._ended = threading.Event()
        self._lost: StoreBusy | None = None
        options = Options(
            store=settings.store,
            socket=settings.processor_socket,
            keep=settings.keep_snapshots,
            maximum_bytes=settings.maximum_bytes,
        )
        self._store: LocalStore | PodStore = LocalStore(options)
        if settings.pod is not None:
            from windsock.cluster.access.streams import exec_transport  # noqa: PLC0415 - heavy

            self._store = PodStore(
                settings.pod.connect(),
                lambda cluster: exec_transport(cluster, options),
                client=settings.pod.client,
                take_over=take_over,
                lost=self._lose,
                note=lambda message: on_event(events.Note(message=message)),
                pause=self._pause,
            )
        self.session = SyncSession(
            Path(settings.dags_folder),
            connect=self._store.connect,
            on_event=on_event,
            on_snapshot=on_snapshot,
            further={name: Path(folder) for name, folder in settings.further.items()},
            times=SyncTimes(quiet=settings.quiet, longest=settings.longest),
            client=self._store.client,
            take_over=take_over,
            owns=self._store.has_lease,
        )

    def run(self) -> None:
        """Sync until `stop`.

        Raises:
            StoreBusy: Somebody else syncs, or has taken the sync over.
        """
        try:
            self.session.run(self._ended)
        finally:
            self._store.close()
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """End `run`; from any thread."""
        self._ended.set()

    def _pause(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise EnvironmentFailure(
                "the sync has ended",
                "`invoke status` shows what runs; `invoke up` starts what is missing.",
            )

    def _lose(self, busy: StoreBusy) -> None:
        self._lost = StoreBusy(busy.holder, lost=True)
        self._ended.set()
