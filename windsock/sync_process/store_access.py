"""Who may write a store, and how its agent is reached.

One session at a time writes a store. Two things see to that, each where the other cannot:

- The *lock* is a file of the store. The agent has it while it runs, so it decides between
  sessions whose agents run on one file system. An agent that loses it ends at once.
- The *lease* is an object of the namespace. It is taken before an agent is started there and
  renewed while one runs, so it decides between machines, also while the pod is being replaced.

With a lease that is ours the lock is taken from whoever has it: that can only be a session that
lost the lease, or an earlier agent of ours. Without one (on this machine, or where the account may
not use leases) the lock decides alone, and is taken over only if a person asks for it. Who is too
late gets `StoreBusy`, which names who syncs.
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

    from windsock.sync.scan import Difference, Tree
    from windsock.sync_process.settings import PodSettings, ServiceSettings


class LocalStore:
    """A store on this machine: its lock alone decides."""

    client = ""

    def __init__(self, options: Options) -> None:
        self._options = options

    def connect(self) -> Transport:
        """Start an agent."""
        return local_transport(self._options)

    def has_lease(self) -> bool:
        """Whether the lock may be taken from whoever has it."""
        return False

    def close(self) -> None:
        """Nothing is left to do."""


class PodStore:
    """A store in a namespace, for as long as its lease is ours.

    Args:
        pod: Names the namespace.
        options: How the agents work.
        take_over: Take the lease from somebody who has it.
        lost: Called when somebody else has taken it.
        note: Called when this account may not use leases.
        pause: Waits so many seconds, before a lease that looks expired is taken.
    """

    def __init__(
        self,
        pod: PodSettings,
        options: Options,
        *,
        take_over: bool,
        lost: Callable[[StoreBusy], None],
        note: Callable[[str], None],
        pause: Callable[[float], None],
    ) -> None:
        from windsock.cluster.api.lease import ANSWER_SECONDS, Lease, LeaseRenewer  # noqa: PLC0415 - heavy

        self.client = pod.client
        self._options = options
        self._take_over = take_over
        self._cluster = pod.connect().within(ANSWER_SECONDS)
        lease = Lease(self._cluster, client=pod.client, pause=pause)
        self._renewer = LeaseRenewer(lease, lost=lost, note=note)

    def connect(self) -> Transport:
        """Take the lease, and start an agent.

        Raises:
            StoreBusy: Somebody else syncs.
        """
        from windsock.cluster.access.streams import exec_transport  # noqa: PLC0415 - heavy

        # Where one connection was lost, those that wait to be used again may be dead, too.
        self._cluster.connection.drop_idle()
        self._renewer.take(take_over=self._take_over)
        self._take_over = False
        return exec_transport(self._cluster, self._options)

    def has_lease(self) -> bool:
        """Whether the lease is ours; asked again, as starting the agent took a while.

        Raises:
            StoreBusy: Somebody has just taken it.
        """
        return self._renewer.confirm()

    def close(self) -> None:
        """Give the lease back."""
        self._renewer.release()


class SyncAttempt:
    """One session: from its start until we stop it, or until somebody else syncs.

    Args:
        settings: Of the sync process.
        on_event: Gets every event.
        on_snapshot: See `SyncSession`.
        take_over: Take the sync over from somebody else.
    """

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
            self._store = PodStore(
                settings.pod,
                options,
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
            raise EnvironmentFailure("the sync has ended")

    def _lose(self, busy: StoreBusy) -> None:
        self._lost = StoreBusy(busy.holder, lost=True)
        self._ended.set()
