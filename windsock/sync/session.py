"""Makes a store equal to folders, again after each change.

`SyncSession.step` makes all decisions, in one thread. A change, a lost connection or a request only
wakes it. So at most one batch is on its way; later changes are in the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from windsock import events
from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError
from windsock.store.entries import Refusal, checked_entries
from windsock.store.wire import WireError
from windsock.sync import git
from windsock.sync.folders import Folders
from windsock.sync.protocol import HALT_HINT, Link, LinkLost, StoreBusy
from windsock.sync.scan import NOTHING, Difference, Problem, Scan, Tree, difference
from windsock.sync.times import EMPTY_PATIENCE, Retry, SyncTimes
from windsock.sync.upload import ANSWER_TIMEOUT, BatchRefused, Moved, Upload
from windsock.sync.watch import Hints, Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from windsock.store.wire import Frame
    from windsock.sync.transport import Transport

STOP_TICK = 0.2
"""Seconds within which `run` notices that it is to stop."""
CHECK_SECONDS = 1.0
"""Seconds between two looks at whether a wait has become hopeless."""
SOON = 0.1
"""Seconds until a file that changes again and again is looked at again."""
EMPTY_TREE = NOTHING.tree
NO_CHANGES = difference(EMPTY_TREE, EMPTY_TREE)
PATHS_SHOWN = 8
"""The number of paths that an event names."""
STEADY = 10.0
"""Seconds after which a connection counts as good, even without a batch."""
PATIENT = 3
"""The number of batches that start anew because a file changes, until that file has to wait; and of
refusals that the next attempt should repair, until one is reported."""
REPAIRED_BY_RETRY = frozenset({"base_mismatch", "digest_mismatch"})
HINTS = {
    "no_space": "Snapshots that no run needs are removed, and it is tried again by itself; if it "
    "stays so, free some space on the disk of the store.",
    "too_large": "Leave out what Airflow does not need, by a .windsockignore.",
    "not_writable": "Check who owns the store, and that its disk is not read-only.",
}


Waiter: TypeAlias = "Future[str]"
"""Gets the id of the tree that the store and the folders have, or an error."""


def _answer(waiters: list[Waiter], result: str | WindsockError) -> None:
    for waiter in waiters:
        if not waiter.set_running_or_notify_cancel():
            continue
        if isinstance(result, str):
            waiter.set_result(result)
        else:
            waiter.set_exception(result)


def _kept(found: Scan, store: Tree, unknown: Collection[str]) -> Scan:
    """What was found; of these files and folders also what is in the store and was not found."""
    if not unknown:
        return found
    names = {path.rstrip("/") for path in unknown}
    below = tuple(f"{name}/" if name else "" for name in names)  # "" is all of the DAG folder.
    kept = {
        path: entry
        for path, entry in store.entries.items()
        if path in names or path.startswith(below)
    }
    return dataclasses.replace(found, tree=Tree(kept | found.tree.entries))


def _lost(error: Exception) -> LinkLost:
    """An error of a conversation as its end: the agent hangs, or its messages are wrong."""
    if isinstance(error, LinkLost):
        return error
    return LinkLost(error.message if isinstance(error, WindsockError) else str(error))


class SyncSession:
    """Syncs a DAG folder, and further ones, to one store.

    Args:
        root: The DAG folder.
        connect: Starts an agent; called again after each cut.
        on_event: Gets every event, from the thread of `run` and from the one that reads the agent's
            messages, never from both at once. It must not block.
        on_snapshot: Gets the store's tree and its changes, before `Sent` and `CaughtUp`, in the
            same way.
        times: How long it waits.
        client: Our name; a session with the same name may take the store from us.
        take_over: Take the store from another session.
        owns: Whether something else than the lock (a lease) gives us the store: then the lock is
            taken each time.
        clock: Monotonic seconds.
        further: Name in the tree → folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        connect: Callable[[], Transport],
        on_event: Callable[[events.Event], None],
        on_snapshot: Callable[[Tree, Difference], None] = lambda *_: None,
        times: SyncTimes | None = None,
        client: str = "",
        take_over: bool = False,
        owns: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        further: Mapping[str, Path] | None = None,
    ) -> None:
        self._connect_transport = connect
        self._on_event = on_event
        self._on_snapshot = on_snapshot
        self._times = times or SyncTimes()
        self._take_over = take_over
        self._clock = clock
        roots = [root, *(further or {}).values()]
        self._hints = Hints(
            quiet=self._times.quiet,
            longest=self._times.longest,
            switching=lambda: any(git.is_at_work(root) for root in roots),
            clock=clock,
        )
        self._folders = Folders(
            root,
            further=further or {},
            hints=self._hints,
            note=lambda message: self._publish(events.Note(message=message)),
        )
        self._client = client or uuid.uuid4().hex
        self._owns = owns
        self._publishing = threading.RLock()

        self._link: Link | None = None
        self._attempts = 0
        self._connections = 0
        self._reconnect = Retry(self._times, clock)
        self._resend = Retry(self._times, clock)
        self._connected_at = 0.0
        self._problem = "not connected yet"

        self._early: Scan | None = None
        self._store: Tree | None = None
        self._store_id: str | None = None
        self._batch = 0
        self._unanswered: tuple[Upload, float] | None = None
        self._since: float | None = None
        self._hinted: set[str] | None = None
        self._due = 0.0
        self._problems: set[Problem] = set()
        self._refusal = ""
        self._repairs = 0
        self._equal = False
        self._halted: events.Halted | None = None
        self._empty_allowed = False
        self._allowed: set[str] = set()
        self._moved: dict[str, int] = {}
        self._emptied: frozenset[str] = frozenset()
        self._emptied_since: float | None = None

        self._waiters: queue.SimpleQueue[Waiter] = queue.SimpleQueue()
        self._settings: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._ended = ""

    @property
    def notes(self) -> list[str]:
        """What stands of the events `Note` that it has published; from any thread."""
        return self._folders.notes

    def request_scan(
        self, *, timeout: float = 60.0, check: Callable[[], None] = lambda: None
    ) -> str:
        """Wait until the store equals the folder as it is now; from any thread.

        Args:
            timeout: In seconds.
            check: Called each second of the wait; what it raises ends it.

        Returns:
            The tree id that both have.

        Raises:
            DeadlineExceeded: They did not get equal in time; the message names the reason.
            WindsockError: The store refused the batch, the sync is halted, or has ended.
        """
        waiter: Waiter = Future()
        self._waiters.put(waiter)
        if self._ended:  # `close` sets this before it answers those who wait.
            _answer(self._take_waiters(), EnvironmentFailure(self._ended, "Start the sync again."))
        self._hints.nudge()
        deadline = time.monotonic() + timeout
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    return waiter.result(min(left, CHECK_SECONDS))
                check()
                if not left:
                    raise DeadlineExceeded(
                        f"the DAG folder was not synced within {timeout:g} s: {self._state()}",
                        "See `invoke status`.",
                    )
        finally:
            waiter.cancel()  # It does nothing to one that is done.

    def allow_empty(self) -> None:
        """The folder is empty, or gone, on purpose: empty the store too; from any thread."""
        self._empty_allowed = True
        self._hints.nudge()

    def tell_settings(self, names: Iterable[str]) -> None:
        """Tell the dag-processor which variables and connections have changed; from any thread.

        Its answer is an event, `Parsing`; while it is away there is none.
        """
        self._settings.put(sorted(names))
        self._hints.nudge()

    def run(self, stop: threading.Event) -> None:
        """Sync until `stop` is set.

        Raises:
            StoreBusy: Another session syncs the store, or took it over.
        """
        reason = "the sync has ended"
        try:
            while not stop.is_set():
                pause = min(max(0.0, self._due - self._clock()), STOP_TICK)
                wake = self._hints.wait(pause)
                if self._folders.is_elsewhere():
                    self._hints.note(None)
                if wake is not None or self._clock() >= self._due:
                    self.step(wake)
        except WindsockError as error:
            reason = error.message
            raise
        finally:
            self.close(reason)

    def close(self, reason: str = "the sync has ended") -> None:
        """End the conversation and the watching; fail all who wait."""
        self._folders.stop()
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._ended = reason
        _answer(self._take_waiters(), EnvironmentFailure(reason))

    def _take_waiters(self) -> list[Waiter]:
        waiters = []
        with contextlib.suppress(queue.Empty):
            while True:
                waiters.append(self._waiters.get_nowait())
        return waiters

    def step(self, wake: Wake | None = None) -> None:
        """Do one round: connect, scan, send.

        Args:
            wake: The hints of the watcher; None to look at everything, or, while the save waits
                for files that were just emptied, at these.

        Raises:
            StoreBusy: Another session syncs the store, or took it over.
        """
        if wake is not None and self._since is None:
            self._since = wake.since
        waiters = self._take_waiters()
        emptied, self._emptied = self._emptied, frozenset()
        paths = wake.paths if wake is not None else emptied or None
        if paths is None or self._hinted is None or waiters:
            self._hinted = None
        else:
            self._hinted |= paths
        settled = False
        try:
            settled = self._work(waiters)
        except LinkLost as error:
            self._lose(error)
        finally:
            if not settled:
                for waiter in waiters:
                    if not waiter.done():
                        self._waiters.put(waiter)

    def _work(self, waiters: list[Waiter]) -> bool:
        """Returns whether the waiters have been answered."""
        link = self._connected()
        if link is None:
            return False
        with contextlib.suppress(queue.Empty):
            while True:
                link.send({"type": "settings", "names": self._settings.get_nowait()})
        since = self._since if self._since is not None else self._clock()
        self._since = None
        early, self._early = self._early, None
        found = early or self._look()
        try:
            return self._settle(link, found, since=since, waiters=waiters)
        except BatchRefused as refusal:
            return self._take_refusal(refusal, waiters)
        except (LinkLost, DeadlineExceeded, WireError, Refusal) as error:
            self._since = since
            raise _lost(error) from None
        except Moved as moved:
            self._moved[moved.path] = self._moved.get(moved.path, 0) + 1
            self._since, self._due = since, self._clock()
            return False

    def _settle(self, link: Link, found: Scan, *, since: float, waiters: list[Waiter]) -> bool:
        store = self._store if self._store is not None else self._fetch(link)
        found = self._hold_back(found, store)
        found = _kept(found, store, self._halts(found, store))
        if self._halted is not None and not self._halted.folders:
            _answer(waiters, EnvironmentFailure(self._halted.reason, HALT_HINT))
            return True
        self._emptied = self._just_emptied(found, store)
        if self._emptied:
            self._since, self._due = since, self._clock() + SOON
            return False
        if not self._bring_up(link, found, store, since=since, urgent=bool(waiters)):
            return False
        if found.unsettled:
            self._since, self._due = since, self._clock() + SOON
            return False
        _answer(waiters, found.tree.id)
        return True

    # connecting

    def _connected(self) -> Link | None:
        """The link, or a new one if it is time for that, or None."""
        if self._link is not None:
            if not self._link.alive:
                raise self._link.lost
            return self._link
        if self._clock() < self._reconnect.due:
            self._due = self._reconnect.due
            return None
        try:
            self._link = self._connect()
        except StoreBusy as busy:
            raise StoreBusy(busy.holder, lost=self._connections > 0) from None
        except (WindsockError, WireError, Refusal) as error:
            raise _lost(error) from None
        self._connected_at = self._clock()
        return self._link

    def _connect(self) -> Link:
        self._attempts += 1
        if self._attempts > 1:
            return self._converse()
        # The first scan takes as long as the start of an agent.
        with ThreadPoolExecutor(1, thread_name_prefix="windsock-sync-look") as pool:
            return self._converse(pool.submit(self._look))

    def _converse(self, looking: Future[Scan] | None = None) -> Link:
        transport = self._connect_transport()
        link = Link(transport, aside=self._aside, ended=self._hints.nudge, clock=self._clock)
        try:
            take_over = self._owns() or (self._take_over and self._connections == 0)
            link.hello(client=self._client, take_over=take_over)
            if looking is not None:
                self._early = looking.result()
            welcome = link.welcome(timeout=self._times.start)
            tree, pid = welcome.header["tree"], int(welcome.header["pid"])
            unanswered, self._unanswered = self._unanswered, None
            if unanswered is not None and tree != unanswered[0].tree.id:
                unanswered = None  # The agent has not applied it.
            if unanswered is not None:
                self._store_id, self._store = tree, unanswered[0].tree
            elif tree is None:
                self._store_id, self._store = None, EMPTY_TREE
            elif tree != self._store_id:
                self._store_id, self._store = tree, None
            if self._store is None:
                self._fetch(link)
        except BaseException:
            link.close()
            raise
        self._connections += 1
        self._equal = False
        self._publish(events.Connected(snapshot=tree, pid=pid, again=self._connections > 1))
        if unanswered is not None:
            self._publish_sent(*unanswered)
        return link

    def _fetch(self, link: Link) -> Tree:
        link.send({"type": "manifest"})
        answer = link.receive("manifest", timeout=ANSWER_TIMEOUT)
        self._store_id = answer.header["tree"]
        self._store = Tree.from_rows(checked_entries(answer.header["entries"]))
        return self._store

    def _lose(self, error: LinkLost) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            if self._clock() - self._connected_at >= STEADY:
                self._reconnect.succeed()
        self._early = self._hinted = None
        if error.code == "taken_over":
            holder = json.loads(str(error))
            # The holder may be an agent of our own that was frozen, and ends now.
            if holder and holder.get("client") != self._client:
                raise StoreBusy(holder, lost=True)
        self._problem = str(error)
        pause = self._reconnect.fail()
        self._due = self._reconnect.due
        self._publish(events.Disconnected(reason=str(error), retry=pause))

    # looking

    def _look(self) -> Scan:
        hinted, self._hinted = self._hinted, set()
        found = self._folders.look(hinted)
        self._due = self._clock() + self._folders.interval
        problems = set(found.problems)
        for problem in sorted(problems - self._problems, key=lambda each: each.path):
            self._publish(events.NotSynced(path=problem.path, reason=problem.reason))
        for path in sorted(
            {each.path for each in self._problems} - {each.path for each in problems}
        ):
            self._publish(events.SyncedAgain(path=path))
        self._problems = problems
        return found

    def _hold_back(self, found: Scan, store: Tree) -> Scan:
        """Leave as it is in the store what cannot be sent yet, so that all else is sent.

        These are files that change faster than they can be sent, and what could not be read.
        """
        found = _kept(found, store, found.unread)
        moving = {path for path, times in self._moved.items() if times >= PATIENT}
        if not moving:
            return found
        entries = {path: e for path, e in found.tree.entries.items() if path not in moving}
        before = store.entries
        entries.update({path: before[path] for path in moving if path in before})
        return dataclasses.replace(
            found, tree=Tree(entries), unsettled=found.unsettled.union(moving)
        )

    def _just_emptied(self, found: Scan, store: Tree) -> frozenset[str]:
        """The files that were not empty a moment ago, and may be written in a moment.

        The whole save waits for that: a part of it would be a state that never was. It does not
        wait longer if more and more files are emptied.
        """
        emptied = frozenset(
            path
            for path, entry in found.tree.entries.items()
            if entry.kind == "file"
            and entry.size == 0
            and (before := store.entries.get(path)) is not None
            and before.size > 0
        )
        if not emptied:
            self._emptied_since = None
        elif self._emptied_since is None:
            self._emptied_since = self._clock()
        elif self._clock() - self._emptied_since >= EMPTY_PATIENCE:
            return frozenset()
        return emptied

    def _halts(self, found: Scan, store: Tree) -> Collection[str]:
        """Tell which folders would be emptied in the store, and nobody has allowed that.

        Returns:
            The names of those that are further folders.
        """
        reasons = self._folders.halted(found.tree, store)
        if self._empty_allowed:
            self._empty_allowed = False
            self._allowed |= reasons.keys()
        self._allowed &= reasons.keys()
        reasons = {name: why for name, why in reasons.items() if name not in self._allowed}
        before, self._halted = self._halted, None
        if reasons:
            # Without the DAG folder nothing is sent.
            names = () if "" in reasons else tuple(sorted(reasons))
            self._halted = events.Halted(reason="; ".join(reasons.values()), folders=names)
            if before != self._halted:
                self._publish(self._halted)
        elif before is not None:
            self._publish(events.Resumed())
        if self._halted is not None and not self._halted.folders:
            self._equal = False
        return reasons.keys() - {""}

    # sending

    def _bring_up(
        self, link: Link, found: Scan, store: Tree, *, since: float, urgent: bool
    ) -> bool:
        """Make the store equal to what was found; returns whether it is.

        Raises:
            BatchRefused: The store stays as it was.
            Moved: A file changed since the scan.
            LinkLost: The agent is gone.
        """
        changes = difference(store, found.tree)
        if changes or self._store_id is None:
            if not urgent and self._clock() < self._resend.due:
                self._since, self._due = since, self._resend.due
                return False
            if not self._equal:
                self._publish(events.Behind(count=len(changes.paths)))
            self._batch += 1
            upload = Upload(
                number=self._batch,
                place=self._folders.place,
                base=self._store_id,
                tree=found.tree,
                difference=changes,
                contents=found.contents,
                settled=self._folders.settled,
            )
            self._unanswered = upload, since
            size = upload.send(link)
            self._unanswered = None
            self._store, self._store_id = found.tree, found.tree.id
            self._reconnect.succeed()
            self._publish_sent(upload, since, size)
        self._emptied_since = None
        self._moved.clear()
        self._resend.succeed()
        self._refusal, self._repairs = "", 0
        if not self._equal:
            self._equal = True
            self._publish(events.CaughtUp(snapshot=found.tree.id), found.tree)
        return True

    def _publish_sent(self, upload: Upload, since: float, size: int = 0) -> None:
        paths = sorted(upload.difference.paths)
        sent = events.Sent(
            snapshot=upload.tree.id,
            paths=tuple(paths[:PATHS_SHOWN]),
            count=len(paths),
            bytes=size,
            since_save=round(self._clock() - since, 4),
        )
        self._publish(sent, upload.tree, upload.difference)

    def _take_refusal(self, refusal: BatchRefused, waiters: list[Waiter]) -> bool:
        """Try again later; returns whether the waiters have been answered."""
        pause = self._resend.fail()
        self._since, self._due = None, self._resend.due
        self._equal = False
        if refusal.code in REPAIRED_BY_RETRY:
            self._store = None
            self._repairs += 1
            if refusal.code == "digest_mismatch":
                # A file has changed without its times.
                self._hinted = None
                self._folders.forget()
            if self._repairs < PATIENT:
                return False
        if refusal.code != self._refusal:
            self._publish(events.Refused(code=refusal.code, message=str(refusal), retry=pause))
        self._refusal = refusal.code
        _answer(waiters, EnvironmentFailure(str(refusal), HINTS.get(refusal.code, "")))
        return True

    # events

    def _aside(self, frame: Frame) -> None:
        """Take a message that is no answer; in the link's reading thread."""
        event: events.Event | None
        if frame.type == "processor":
            event = events.ProcessorConnection(connected=bool(frame.header["connected"]))
        else:
            event = events.from_json(frame.header["message"])
        if event is not None:
            self._publish(event)

    def _publish(
        self, event: events.Event, tree: Tree | None = None, changes: Difference = NO_CHANGES
    ) -> None:
        with self._publishing:
            if tree is not None:
                self._on_snapshot(tree, changes)
            self._on_event(event)

    def _state(self) -> str:
        if self._link is None:
            return f"the sync agent is not connected: {self._problem}"
        halted = self._halted.reason if self._halted is not None else ""
        return halted or self._refusal or "files keep changing, or the store is slow"
