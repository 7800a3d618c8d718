"""Watch folders for changes, by watchdog's `Observer`.

A hint says when to look; a scan finds out what is there. So nothing is lost when the kernel drops
events, when the folder is replaced, or on a file system without events: a scan of everything comes
at least every ten seconds.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog import events

from windsock.sync.rules import IGNORE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.api import BaseObserver

    from windsock.sync.rules import Rules

CHECK = 10.0
"""Seconds between two scans without any event."""
POLL = 1.0
"""The same where events do not come, or not for all folders."""
MOVE_DELAY = 0.02
"""Seconds that a file that was moved away may take to appear elsewhere in the folder."""
ABSENT = 0.25
"""The same while the folder does not exist."""
MOST_PATHS = 64
"""With more changed files than this, a scan of everything is quicker."""
SILENT_FILE_SYSTEMS = frozenset({"9p", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "vboxsf"})
"""Changes made on the other side of these cause no events on this one."""
LIMIT_HINT = (
    "Raise the limit with `sudo sysctl fs.inotify.max_user_watches=524288 "
    "fs.inotify.max_user_instances=512`."
)
LIMIT = f"the limit of inotify watches is reached. {LIMIT_HINT} Until then"
CHANGES: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileAttribEvent,
    events.FileClosedEvent,
    events.FileDeletedEvent,
    events.FileMovedEvent,
    events.DirCreatedEvent,
    events.DirAttribEvent,
    events.DirDeletedEvent,
    events.DirMovedEvent,
]
"""All events but those of reading, and those of a folder in which a file changed."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A reason to scan.

    Attributes:
        since: When (monotonic seconds) the first hint came; None if only `nudge` was called.
        paths: The files that may have changed, and no others did; None means anything may have.
    """

    since: float | None
    paths: frozenset[str] | None = None


class Hints:
    """Collects hints until none has come for a while.

    Args:
        quiet: Seconds without a hint after which to wake.
        longest: Seconds after the first hint after which to wake in any case.
        clock: Monotonic seconds.
    """

    def __init__(
        self, *, quiet: float, longest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet = quiet
        self._longest = longest
        self._clock = clock
        self._condition = threading.Condition()
        self._first: float | None = None
        self._paths: set[str] | None = set()
        self._last = 0.0
        self._nudged = False

    def note(self, path: str | None) -> None:
        """A file changed; None if it is unknown which."""
        now = self._clock()
        with self._condition:
            self._last = now
            if path is None or self._paths is None or len(self._paths) >= MOST_PATHS:
                self._paths = None
            else:
                self._paths.add(path)
            if self._first is None:
                self._first = now
                self._condition.notify()

    def nudge(self) -> None:
        """Let `wait` return at once, without a change; from any thread."""
        with self._condition:
            self._nudged = True
            self._condition.notify()

    def remaining(self) -> float | None:
        """Seconds until it is time to wake; 0 if it is, None if there is no reason yet."""
        if self._nudged:
            return 0.0
        if self._first is None:
            return None
        due = min(self._last + self._quiet, self._first + self._longest)
        return max(0.0, due - self._clock())

    def take(self) -> Wake:
        """The reason to wake; later hints belong to the next one."""
        with self._condition:
            known = self._paths is not None and self._first is not None and not self._nudged
            wake = Wake(self._first, frozenset(self._paths or ()) if known else None)
            self._first, self._paths, self._nudged = None, set(), False
            return wake

    def wait(self, timeout: float) -> Wake | None:
        """Wait for a quiet moment after a change; None if nothing happened in `timeout` seconds."""
        deadline = self._clock() + timeout
        with self._condition:
            while True:
                remaining = self.remaining()
                if remaining == 0.0:
                    break
                left = deadline - self._clock()
                if left <= 0:
                    return None
                self._condition.wait(left if remaining is None else min(left, remaining))
        return self.take()


class Watcher:
    """Watches one folder, which may be replaced, removed and made again.

    Args:
        root: The folder.
        hint: Called with the path of a file that changed, relative to the folder, or with None if
            anything may have changed. In a thread of watchdog.
        note: Called with a sentence when saves are noticed more slowly than usual.
        observer: Makes an observer (tests).
    """

    def __init__(
        self,
        root: Path,
        *,
        hint: Callable[[str | None], None],
        note: Callable[[str], None] = lambda _: None,
        observer: Callable[[], BaseObserver] | None = None,
    ) -> None:
        self._root = root
        self._hint = hint
        self._note = note
        self._make_observer = observer or _observer
        self._observer: BaseObserver | None = None
        self._changes: _Changes | None = None
        self._armed: tuple[int, int, Rules] | None = None
        self._interval = ABSENT
        self._noted = ""

    @property
    def interval(self) -> float:
        """Seconds after which to scan even without a hint."""
        return self._interval

    def arm(self, rules: Rules) -> bool:
        """Watch the folder that exists now; cheap if it is watched already.

        Call it before each scan: what changes later causes a hint.

        Returns:
            Whether hints came for all changes since the last call.
        """
        try:
            status = self._root.stat()
        except OSError:
            self.stop()
            self._interval = ABSENT
            return False
        wanted = (status.st_dev, status.st_ino, rules)
        if self._armed != wanted or self._broken():
            self.stop()
            self._armed = wanted
            self._start(rules)
            return False
        if self._changes is not None and self._changes.new_folders:
            self._changes.new_folders = False
            self._check_limit()
        return self._interval == CHECK

    def stop(self) -> None:
        """Stop watching, until the next `arm`."""
        observer, self._observer, self._armed = self._observer, None, None
        if observer is not None:
            _end(observer)

    def _start(self, rules: Rules) -> None:
        self._interval = CHECK
        silent = _silent_file_system(self._root)
        if silent:
            self._slow_down(silent)
            return
        try:
            self._observe(rules)
        except OSError as error:
            limit = error.errno in (errno.ENOSPC, errno.EMFILE)
            self._slow_down(LIMIT if limit else str(error))
        else:
            self._check_limit()

    def _observe(self, rules: Rules) -> None:
        folder = self._root.resolve()
        above = self._root.parent.resolve()
        itself = {str(folder), str(above / self._root.name)}
        changes = _Changes(str(folder), rules, self._hint, itself=itself)
        observer = self._make_observer()
        try:
            observer.schedule(changes, str(folder), recursive=True, event_filter=CHANGES)
            # A folder that is moved away, or a link that leads elsewhere, shows in the one above.
            observer.schedule(changes, str(above), recursive=False, event_filter=CHANGES)
            observer.start()
        except OSError:
            _end(observer)
            raise
        self._observer, self._changes = observer, changes

    def _broken(self) -> bool:
        if self._observer is None or self._changes is None:
            return False
        return self._changes.replaced or not self._observer.is_alive()

    def _check_limit(self) -> None:
        """Find out whether the limit is reached: watchdog leaves out folders beyond it silently."""
        if self._observer is None:
            return
        try:
            probe = self._observer.schedule(
                events.FileSystemEventHandler(), str(Path(__file__).parent), event_filter=[]
            )
        except OSError:
            self._slow_down(LIMIT)
        else:
            self._observer.unschedule(probe)

    def _slow_down(self, reason: str) -> None:
        self._interval = POLL
        if reason != self._noted:
            self._noted = reason
            self._note(f"{reason}: {self._root} is scanned every second")


def _observer() -> BaseObserver:
    # Heavy, and only needed to watch.
    from watchdog.observers import Observer  # noqa: PLC0415
    from watchdog.observers.inotify_move_event_grouper import (  # noqa: PLC0415
        InotifyMoveEventGrouper,
    )

    # watchdog waits for the other end of a move, half a second by default, and delivers no event
    # meanwhile. Each save would wait for it whose editor moves a backup to another folder.
    InotifyMoveEventGrouper.delay = MOVE_DELAY
    # Folders that are made and moved quickly are found twice, of which watchdog warns: no harm.
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    return Observer()


def _end(observer: BaseObserver) -> None:
    observer.stop()
    if observer.is_alive():
        observer.join()


class _Changes(events.FileSystemEventHandler):
    """Makes hints of watchdog's events.

    Args:
        folder: The watched folder, without links in its path.
        rules: An ignored file causes no hint.
        hint: Called with a path below the folder, or None.
        itself: The paths by which events name the folder itself.

    Attributes:
        replaced: The folder was moved or removed: these are the events of another one.
        new_folders: Folders were made since this was last set to False.
    """

    def __init__(
        self, folder: str, rules: Rules, hint: Callable[[str | None], None], *, itself: set[str]
    ) -> None:
        self._prefix = folder.rstrip("/") + "/"
        self._rules = rules
        self._hint = hint
        self._itself = itself
        self.replaced = False
        self.new_folders = False

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        """Called by watchdog for each event."""
        for path in (event.src_path, event.dest_path):
            if path in self._itself:
                self.replaced = self.replaced or not isinstance(event, events.DirAttribEvent)
                self._hint(None)
            elif path and str(path).startswith(self._prefix):
                self._take(str(path).removeprefix(self._prefix), event)

    def _take(self, path: str, event: events.FileSystemEvent) -> None:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            self._hint(None)
            return
        if path != IGNORE_FILE and self._rules.ignores_below(path, is_directory=event.is_directory):
            return
        if event.is_directory:
            self.new_folders = True
        self._hint(None if event.is_directory or path == IGNORE_FILE else path)


def _silent_file_system(root: Path) -> str:
    """Why no events are to be expected from the file system, or nothing."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    place = f"{root.resolve()}/"
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.replace("\\040", "\0").split(" ")
        point = point.replace("\0", " ")
        if place.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, found
    if kind not in SILENT_FILE_SYSTEMS:
        return ""
    return f"{best} is a {kind} file system, which reports no changes"
