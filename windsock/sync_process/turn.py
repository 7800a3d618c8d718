"""One turn of the sync process: a session, and what decides that it is ours to sync."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.store.agent import Options
from windsock.sync import events
from windsock.sync.protocol import StoreBusy
from windsock.sync.session import Pace, Session
from windsock.sync.transport import Transport, local_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.sync_process.service import PodSettings, ServiceSettings


class Here:
    """Agents on this machine: nobody else has this store."""

    client = ""

    def __init__(self, options: Options) -> None:
        self._options = options

    def connect(self) -> Transport:
        """Start an agent."""
        return local_transport(sys.executable, self._options)

    def owns(self) -> bool:
        """Whether something beside the store says that it is ours."""
        return False

    def close(self) -> None:
        """Nothing is left to do."""


class InPod:
    """Agents in the pod of the dag-processor, as long as the namespace's lease is ours.

    Args:
        pod: Where.
        options: How the agents work.
        take_over: Take the lease from somebody who holds it.
        lost: Told when somebody else has taken it.
        note: Told when this account may not use leases.
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
        from windsock.cluster.api.client import Cluster  # noqa: PLC0415 - heavy
        from windsock.cluster.api.lease import ANSWER_SECONDS, Keeper, Lease  # noqa: PLC0415 - heavy

        self.client = pod.client
        self._options = options
        self._take_over = take_over
        self._cluster = Cluster.connect(
            context=pod.context, namespace=pod.namespace, kubeconfig=pod.kubeconfig or None
        ).within(ANSWER_SECONDS)
        lease = Lease(self._cluster, client=pod.client, pause=pause)
        self._keeper = Keeper(lease, lost=lost, note=note)

    def connect(self) -> Transport:
        """Take the lease, and start an agent.

        Raises:
            StoreBusy: Somebody else syncs.
        """
        from windsock.cluster.access.streams import exec_transport  # noqa: PLC0415 - heavy

        # The link was lost, or there is none yet: connections beside it may have died with it.
        self._cluster.connection.drop_idle()
        self._keeper.take(take_over=self._take_over)
        self._take_over = False
        return exec_transport(self._cluster, self._options)

    def owns(self) -> bool:
        """Whether the lease is ours: looked at anew, while the agent has been starting.

        Raises:
            StoreBusy: Somebody has just taken it.
        """
        return self._keeper.confirm()

    def close(self) -> None:
        """Give the lease back."""
        self._keeper.release()


class Turn:
    """One session, from its start until we stop or somebody else syncs.

    Args:
        settings: Of the service.
        tell: Told everything that happens.
        take_over: Take the sync over from somebody else.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        tell: Callable[[events.Event], None],
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
        self._place: Here | InPod
        if settings.pod is None:
            self._place = Here(options)
        else:
            self._place = InPod(
                settings.pod,
                options,
                take_over=take_over,
                lost=self._lose,
                note=lambda message: tell(events.Note(message=message)),
                pause=self._pause,
            )
        self.session = Session(
            Path(settings.dags_folder),
            connect=self._place.connect,
            on_event=tell,
            further={name: Path(folder) for name, folder in settings.further.items()},
            pace=Pace(quiet=settings.quiet, longest=settings.longest),
            client=self._place.client,
            take_over=take_over,
            owns=self._place.owns,
        )

    def run(self) -> None:
        """Sync until `stop`.

        Raises:
            StoreBusy: Somebody else syncs, or has taken the sync over.
        """
        try:
            self.session.run(self._ended)
        finally:
            self._place.close()
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
