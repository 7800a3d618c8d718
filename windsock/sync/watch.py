"""Watch folders for changes, by watchdog.

A hint says when to look; a scan finds out what changed. Everything is scanned at least every ten
seconds, so nothing is lost when the kernel drops events, when the folder is replaced, or on a file
system without events.

On Linux this uses watchdog's inotify reader, `InotifyFD`, without its `Observer`. An Observer
delays a file that is moved away, and everything after it, by half a second; it needs four threads
for a folder; and it hides an overflow and an exhausted limit. Other systems use the Observer.
docs/decisions/0013-a-smaller-house.md has the numbers.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from windsock.sync.mounts import (
    MountChanges,
    inner_mounts,
    is_silent,
    reports_nothing,
    silent_file_system,
)
from windsock.sync.rules import IGNORE_FILE

if sys.platform == "linux":
    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyConstants,
        InotifyFD,
        Mask,
    )

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

    from windsock.sync.rules import Rules

CHECK = 10.0
"""Seconds between two scans without any event."""
POLL = 1.0
"""The same where events do not come, or not for all folders."""
SWITCH_SECONDS = 5.0
"""How long a branch switch may take and still be one batch."""
ABSENT = 0.25
"""The same while the folder does not exist."""
MOST_PATHS = 64
"""With more changed files than this, a scan of everything is quicker."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)
"""The errors of a folder that was removed again, or that only a change of its mode makes readable:
that is an event, too."""
LIMIT_HINT = (
    "Raise the limit with `sudo sysctl fs.inotify.max_user_watches=524288 "
    "fs.inotify.max_user_instances=512`."
)
LIMIT = f"the limit of inotify watches is reached. {LIMIT_HINT} Until then"


@dataclass(frozen=True, slots=True)
class Wake:
    """A reason to scan.

    Attributes:
        since: When (monotonic seconds) the first hint came; None if only `nudge` was called.
        paths: The files that may have changed; None means that any file may have.
    """

    since: float | None
    paths: frozenset[str] | None


class Hints:
    """Collects hints until none has come for a while.

    Args:
        quiet: Seconds without a hint after which to wake.
        longest: Seconds after the first hint after which to wake in any case.
        switching: Whether git is switching branches: then more changes come.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        quiet: float,
        longest: float,
        switching: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._longest = longest
        self._switching = switching
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

    def wait(self, timeout: float) -> Wake | None:
        """Wait for a quiet moment after a change; None if nothing happened in `timeout` seconds."""
        deadline = self._clock() + timeout
        with self._condition:
            while (pause := self._remaining(deadline)) > 0:
                self._condition.wait(pause)
            if self._remaining(math.inf) > 0:
                return None
            if self._is_switching():
                self._condition.wait(self._quiet)
                return None
            known = self._paths is not None and not self._nudged
            wake = Wake(self._first, frozenset(self._paths or ()) if known else None)
            self._first, self._paths, self._nudged = None, set(), False
            return wake

    def _is_switching(self) -> bool:
        if self._nudged or self._first is None:
            return False
        return self._clock() - self._first < SWITCH_SECONDS and self._switching()

    def _remaining(self, deadline: float) -> float:
        """Seconds until there is a reason to wake, or until the deadline."""
        if self._nudged:
            return 0.0
        if self._first is not None:
            deadline = min(deadline, self._last + self._quiet, self._first + self._longest)
        return deadline - self._clock()


class Backend(Protocol):
    """Calls a function when the folder changes."""

    def start(self) -> None:
        """Start to watch.

        Raises:
            OSError: The system refuses it.
        """

    def stop(self) -> None:
        """Stop, and wait for all threads."""

    @property
    def broken(self) -> str:
        """Why it misses changes; empty while it does not."""


class Watcher:
    """Watches one folder, which may be replaced, removed and made again.

    Args:
        root: The folder.
        hint: Called with the path of a file that changed, relative to the folder, or with None if
            any file may have changed. In a thread of watchdog.
        note: Called with a sentence when saves are noticed more slowly than usual.
        backend: Makes a backend for a folder, its rules and a hint (tests).

    Attributes:
        interval: Seconds after which to scan even without a hint.
    """

    def __init__(
        self,
        root: Path,
        *,
        hint: Callable[[str | None], None],
        note: Callable[[str], None],
        backend: Callable[[Path, Rules, Callable[[str | None], None]], Backend] | None = None,
    ) -> None:
        self._root = root
        self._hint = hint
        self._note = note
        system = InotifyBackend if sys.platform == "linux" else ObserverBackend
        self._make_backend = backend or system
        self._backend: Backend | None = None
        self._watched: tuple[int, int, Rules] | None = None
        self._mounts: MountChanges | None = None
        self._inner: list[tuple[str, str]] = []
        self._blind = ""
        self._noted = ""
        self.interval = ABSENT

    @property
    def standing(self) -> str:
        """The sentence that `note` got last, as long as it holds; else empty."""
        is_slow = self._watched is not None and self.interval == POLL
        return self._noted if is_slow else ""

    def watch(self, rules: Rules) -> bool:
        """Watch the folder that exists now; cheap if it is watched already.

        Call this before each scan: what changes later causes a hint.

        Returns:
            Whether hints came for all changes since the last call.
        """
        try:
            status = self._root.stat()
        except OSError:
            self.stop()
            self.interval = ABSENT
            return False
        wanted = (status.st_dev, status.st_ino, rules)
        broken = self._backend.broken if self._backend is not None else ""
        if self._watched == wanted and broken == LIMIT:
            self._slow_down(broken)
            return False
        if self._watched == wanted and not broken:
            return self._backend is not None and not self._blind
        self.stop()
        self._watched = wanted
        self._start(rules)
        return False

    def stop(self) -> None:
        """Stop watching, until the next `watch`."""
        backend, self._backend, self._watched = self._backend, None, None
        if backend is not None:
            backend.stop()
        mounts, self._mounts = self._mounts, None
        if mounts is not None:
            mounts.close()

    def is_elsewhere(self) -> bool:
        """Whether what is watched is not what is at the folder's path now; cheap.

        No event tells that a link on the path leads to another folder, or that something was
        mounted. The next `watch` watches what is there.
        """
        if self._watched is None:
            return False
        *here, rules = self._watched
        try:
            status = self._root.stat()
            there = [status.st_dev, status.st_ino]
        except OSError:
            there = []
        changed = self._mounts is not None and self._mounts.happened()
        if there != here or (changed and self._inner != inner_mounts(self._root, rules)):
            self._watched = None  # It is told once.
            return True
        return False

    def _start(self, rules: Rules) -> None:
        self._mounts = MountChanges()
        self._inner = inner_mounts(self._root, rules)
        self._blind = silent_file_system(self._root)
        if self._blind:
            self._slow_down(self._blind)
            return
        silent = [reports_nothing(*mount) for mount in self._inner if is_silent(mount[1])]
        self._blind = next(iter(silent), "")
        backend: Backend | None = None
        try:
            backend = self._make_backend(self._root, rules, self._hint)
            backend.start()
        except OSError as error:
            if backend is not None:
                backend.stop()
            limit = error.errno in (errno.ENOSPC, errno.EMFILE)
            self._slow_down(LIMIT if limit else str(error))
        else:
            self._backend = backend
            self.interval = CHECK
            if self._blind:
                self._slow_down(self._blind)

    def _slow_down(self, reason: str) -> None:
        self.interval = POLL
        sentence = f"{reason}: {self._root} is scanned every second"
        if sentence != self._noted:
            self._noted = sentence
            self._note(sentence)


class InotifyBackend:
    """Watches all folders that are not ignored, by inotify; ignored files cause no hint."""

    def __init__(self, root: Path, rules: Rules, hint: Callable[[str | None], None]) -> None:
        self._root = os.fsencode(root)
        self._rules = rules
        self._hint = hint
        self._broken = ""
        self._paths: dict[WatchDescriptor, bytes] = {}
        self._watched: set[bytes] = set()
        self._mask = Mask(
            InotifyConstants.IN_MODIFY
            | InotifyConstants.IN_ATTRIB
            | InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_MOVE
            | InotifyConstants.IN_CREATE
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_DELETE_SELF
            | InotifyConstants.IN_MOVE_SELF
            | InotifyConstants.IN_ONLYDIR
            | InotifyConstants.IN_EXCL_UNLINK
        )
        self._inotify = InotifyFD()
        self._identity = CallbackId(id(self))
        self._lock = threading.RLock()

    @property
    def broken(self) -> str:
        """Why it misses changes; empty while it does not."""
        if not self._broken and not self._inotify.is_alive():
            return "watchdog's thread has ended"
        return self._broken

    def start(self) -> None:
        """Start to watch; raises OSError if the system refuses it."""
        self._inotify.start()
        with self._lock:
            self._add(b"")

    def stop(self) -> None:
        """Stop, and wait for all threads."""
        with self._lock:
            self._paths.clear()  # The end of each watch is no change.
        self._inotify.stop()
        if self._inotify.is_alive():
            self._inotify.join()

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog for each event of a folder."""
        with self._lock:
            self._take(event)

    def _take(self, event: InotifyEvent) -> None:
        folder = self._paths.get(event.wd)
        if folder is None:
            return
        if not event.name:
            if not folder and (event.is_delete_self or event.is_move_self):
                self._break("the folder was replaced")
            elif event.is_attrib:
                self._hint(None)
            return
        path = folder + b"/" + event.name if folder else event.name
        is_directory = bool(event.is_directory)
        if path == IGNORE_FILE.encode():
            self._hint(None)  # It is not sent, but it decides what is sent.
            return
        if self._ignores(path, is_directory=is_directory):
            return
        if is_directory:
            self._follow(event, path)
        self._hint(None if is_directory else _text(path))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog when a watched folder was removed."""
        with self._lock:
            path = self._paths.pop(wd, None)
            if path is not None:
                self._watched.discard(path)
            if path == b"":
                self._break("the folder was removed")

    def on_queue_overflow(self) -> None:
        """Called by watchdog when events were lost."""
        self._break("events were lost")

    def _follow(self, event: InotifyEvent, path: bytes) -> None:
        """Watch a new folder; forget one that was moved away."""
        if event.is_moved_from:
            inside = [
                wd
                for wd, place in self._paths.items()
                if place == path or place.startswith(path + b"/")
            ]
            for wd in inside:
                self._watched.discard(self._paths.pop(wd))
            self._inotify.remove_callbacks([(wd, self._identity) for wd in inside])
        elif event.is_create or event.is_moved_to or event.is_attrib:  # It may be readable now.
            try:
                self._add(path)
            except OSError as error:
                limit = error.errno in (errno.ENOSPC, errno.ENOMEM)
                self._break(LIMIT if limit else str(error))

    def _add(self, path: bytes) -> None:
        folders = [path]
        while folders:
            folder = folders.pop()
            if folder in self._watched:
                continue  # It was found in the folder above before its own event came.
            place = self._root + b"/" + folder if folder else self._root
            try:
                wd = self._inotify.add_callback(place, self._mask, self, self._identity)
                if wd < 0:
                    continue  # A folder that we may not read.
                self._paths[wd] = folder
                self._watched.add(folder)
                with os.scandir(place) as items:
                    for item in items:
                        inside = folder + b"/" + item.name if folder else item.name
                        if item.is_dir(follow_symlinks=False) and not self._ignores(
                            inside, is_directory=True
                        ):
                            folders.append(inside)
            except OSError as error:
                if not folder or error.errno in (errno.ENOSPC, errno.ENOMEM):
                    raise
                if error.errno not in GONE:  # Tried again at the next look.
                    self._broken = f"{os.fsdecode(place)} cannot be watched: {error.strerror}"

    def _ignores(self, path: bytes, *, is_directory: bool) -> bool:
        text = _text(path)
        return text is not None and self._rules.ignores(text, is_directory=is_directory)

    def _break(self, reason: str) -> None:
        self._broken = reason
        self._hint(None)


def _text(path: bytes) -> str | None:
    """A path as text; None if it is not UTF-8."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return None


class ObserverBackend(FileSystemEventHandler):
    """Watches by watchdog's observer for this system (FSEvents, kqueue, …)."""

    def __init__(self, root: Path, rules: Rules, hint: Callable[[str | None], None]) -> None:
        from watchdog.observers import Observer  # noqa: PLC0415 - heavy, and not for Linux

        self._root = root
        self._rules = rules
        self._hint = hint
        self._observer = Observer()

    @property
    def broken(self) -> str:
        """Why it misses changes; empty while it does not."""
        return "" if self._observer.is_alive() else "the observer has ended"

    def start(self) -> None:
        """Start to watch; raises OSError if the system refuses it."""
        self._observer.schedule(self, str(self._root), recursive=True)
        self._observer.start()

    def stop(self) -> None:
        """Stop, and wait for all threads."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog for each event."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        for path in (event.src_path, event.dest_path):
            if path and not self._ignores(os.fsdecode(path)):
                self._hint(None)
                return

    def _ignores(self, path: str) -> bool:
        relative = os.path.relpath(path, self._root)
        if relative in (".", IGNORE_FILE):
            return False
        return self._rules.ignores_below(relative)
