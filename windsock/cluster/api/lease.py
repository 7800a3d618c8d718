"""Who syncs to a namespace: a Lease of Kubernetes, which clients agree on and people can read.

One client has the lease, renews it, and deletes it when it ends. Another client that finds a lease
that is renewed learns who has it; a lease that nobody renews is taken. The clocks of the clients
may differ: a lease that looks expired is watched for a whole duration more, and taken only if
nobody has renewed it by then.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, NOT_FOUND, Refusal
from windsock.errors import EnvironmentFailure, WindsockError
from windsock.sync.protocol import StoreBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

API_VERSION = "coordination.k8s.io/v1"
KIND = "Lease"
NAME = "windsock-sync"
DURATION = 15
"""Seconds without a renewal after which the lease is free."""
RENEW_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""After a renewal that failed."""
ANSWER_SECONDS = 4.0
"""How long to wait for an answer. A change of networks makes a connection silent, and must not
cost the lease."""
ATTEMPTS = 5
"""How often somebody else may change the lease while we take it."""


def identity(*, user: str, host: str, state: Path) -> str:
    """The name of an environment in the lease: the same after each restart.

    Args:
        user: The name of the account on this machine.
        host: The name of this machine.
        state: The state folder: a person may have several environments.
    """
    which = hashlib.blake2b(str(state).encode(), digest_size=4).hexdigest()
    return f"{user}@{host}#{which}"


class Lease:
    """The lease of one namespace, for one client.

    Args:
        cluster: With the namespace.
        client: See `identity`.
        clock: The wall clock, with its time zone.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        client: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._clock = clock
        self._pause = pause

    def take(self, *, take_over: bool = False) -> None:
        """Take the lease, or renew it.

        Args:
            take_over: Take it even from a client that renews it.

        Raises:
            StoreBusy: Somebody else has it; with who, and since when.
            Refusal: This account may not use leases.
            EnvironmentFailure: The cluster does not answer, …
        """
        for _ in range(ATTEMPTS):
            found = self._find()
            try:
                if found is None:
                    self._cluster.create(self._fresh())
                else:
                    if not take_over:
                        self._refuse_busy(found)
                    self._cluster.patch(found, self._change(found))
            except Refusal as error:
                gone = error.code == NOT_FOUND and found is not None  # else: the namespace
                if error.code != CONFLICT and not gone:
                    raise
            else:
                return
        raise EnvironmentFailure(
            f"the lease {NAME} in namespace {self._cluster.namespace} changes all the time",
            "Several windsocks want it at this moment; try again.",
        )

    def release(self) -> None:
        """Delete the lease if it is ours; if that fails, it expires by itself."""
        found = self._find()
        if found is not None and _spec(found).get("holderIdentity") == self._client:
            self._cluster.delete(found, unchanged=True)

    def check(self) -> None:
        """Raise StoreBusy if somebody else has taken the lease."""
        found = self._find()
        if found is not None and self._foreign(found):
            raise _busy(found)

    def _find(self) -> Object | None:
        return self._cluster.get(API_VERSION, KIND, NAME)

    def _refuse_busy(self, found: Object) -> None:
        """Raise StoreBusy if somebody else has the lease and renews it."""
        if not self._foreign(found):
            return
        now: Object | None = found
        if self._expired(found):
            now = self._renewed(found)
        if now is not None and self._foreign(now):
            raise _busy(now)

    def _renewed(self, found: Object) -> Object | None:
        """Watch a lease for its duration: returns it once it is renewed, None if it is not."""
        for _ in range(int(DURATION / RENEW_SECONDS)):
            self._pause(RENEW_SECONDS)
            later = self._find()
            if later is None or _spec(later).get("renewTime") != _spec(found).get("renewTime"):
                return later
        return None

    def _foreign(self, found: Object) -> bool:
        return _spec(found).get("holderIdentity") not in (None, "", self._client)

    def _expired(self, found: Object) -> bool:
        spec = _spec(found)
        try:
            renewed = datetime.fromisoformat(spec["renewTime"])
            lasts = timedelta(seconds=int(spec["leaseDurationSeconds"]))
        except (KeyError, TypeError, ValueError):
            return True
        return self._clock() > renewed + lasts

    def _fresh(self) -> Object:
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": NAME, "labels": dict(MANAGED)},
            "spec": self._signed(transitions=0),
        }

    def _change(self, found: Object) -> Object:
        """What to merge into the lease; the cluster refuses it if somebody was faster."""
        spec = self._signed(transitions=int(_spec(found).get("leaseTransitions") or 0) + 1)
        if _spec(found).get("holderIdentity") == self._client:
            spec = {"renewTime": spec["renewTime"]}
        version = found["metadata"]["resourceVersion"]
        return {"metadata": {"resourceVersion": version}, "spec": spec}

    def _signed(self, *, transitions: int) -> Object:
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._client,
            "leaseDurationSeconds": DURATION,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }


class LeaseRenewer:
    """Renews the lease of a namespace, in a thread, as long as this machine syncs.

    Args:
        lease: Of the namespace.
        lost: Called, in that thread, when somebody else has taken the lease.
        note: Called when this account may not use leases: then only the store knows who syncs.
        stop: Ends the thread; a fresh event (tests pass one that waits for nothing).
    """

    def __init__(
        self,
        lease: Lease,
        *,
        lost: Callable[[StoreBusy], None],
        note: Callable[[str], None],
        stop: threading.Event | None = None,
    ) -> None:
        self._lease = lease
        self._lost = lost
        self._note = note
        self._stop = stop or threading.Event()
        self._thread: threading.Thread | None = None
        self._forbidden = False

    @property
    def renews(self) -> bool:
        """Whether the lease was ours at the last request, and is renewed."""
        return self._thread is not None and self._thread.is_alive()

    def confirm(self) -> bool:
        """Whether the lease is ours at this moment; false if this account may not use leases.

        Raises:
            StoreBusy: Somebody else has it.
            EnvironmentFailure: The cluster does not answer, …
        """
        if not self.renews:
            return False
        self._lease.check()
        return True

    def take(self, *, take_over: bool) -> None:
        """Take the lease, and renew it from now on.

        Raises:
            StoreBusy: Somebody else has it.
            EnvironmentFailure: The cluster does not answer, …
        """
        if self._forbidden:
            return
        try:
            self._lease.take(take_over=take_over)
        except Refusal as error:
            if error.code != FORBIDDEN:
                raise
            self._forbidden = True
            self._note(
                f"{error.message}: nobody can see who else syncs to this namespace. {error.hint}"
            )
            return
        if not self.renews:
            self._thread = threading.Thread(target=self._renew, name="windsock-lease", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop renewing: another process of ours goes on with the lease."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def release(self) -> None:
        """Stop renewing, and delete the lease if it is still ours."""
        self.stop()
        if self._thread is not None:
            with contextlib.suppress(WindsockError):  # the lease expires by itself
                self._lease.release()

    def _renew(self) -> None:
        pause = RENEW_SECONDS
        while not self._stop.wait(pause):
            try:
                self._lease.take()
            except StoreBusy as error:
                self._lost(error)
                return
            except Exception:  # noqa: BLE001 - whatever failed: without renewal others get it
                pause = RETRY_SECONDS  # The session reports a cluster that does not answer.
            else:
                pause = RENEW_SECONDS


def _busy(found: Object) -> StoreBusy:
    spec = _spec(found)
    try:
        since = datetime.fromisoformat(spec["acquireTime"]).timestamp()
    except (KeyError, TypeError, ValueError):
        since = 0.0
    return StoreBusy({"client": spec.get("holderIdentity", ""), "since": since})


def _spec(found: Object) -> Mapping[str, Any]:
    return found.get("spec") or {}
