"""Know that something changed in a folder. The one owner of watchdog.

Events are hints: they say *when* to look, a scan says *what* is there. So nothing is lost when the
kernel's queue overflows, when the folder is replaced, or when events do not come at all: there is
always a look now and then.

On Linux we use watchdog's inotify reader, `InotifyFD`, below its observers. An observer asks for
events of reading too, so that each scan would wake us; it watches ignored folders; it holds a file
that is moved away, and everything after it, back for half a second; and it hides both an overflow
and an exhausted limit of watches. Elsewhere watchdog's observer has to do.
"""

# The names of files are bytes here, whatever the locale; pathlib knows only text.
# ruff: noqa: PTH116

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from windsock.sync.rules import IGNORE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

    from windsock.sync.rules import Rules

CHECK = 10.0
"""Seconds between two looks without any event."""
POLL = 1.0
"""The same where events cannot be had."""
ABSENT = 0.25
"""The same while there is no folder."""
MOST_PATHS = 64
"""With more changed files than this, a look at everything is quicker."""
SILENT_FILE_SYSTEMS = frozenset({"9p", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "vboxsf"})
"""Changes made on the other side of these cause no events on this one."""
LIMIT_HINT = (
    "Raise the limit with `sudo sysctl fs.inotify.max_user_watches=524288 "
    "fs.inotify.max_user_instances=512`."
)


@dataclass(frozen=True, slots=True)
class Wake:
    """There is something to do.

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
        """A file changed, or (None) nobody knows what."""
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
        """Wake whoever waits at once, without a change."""
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
        """The reason to wake; from now on hints belong to the next one."""
        with self._condition:
            known = self._paths is not None and self._first is not None and not self._nudged
            wake = Wake(self._first, frozenset(self._paths or ()) if known else None)
            self._first, self._paths, self._nudged = None, set(), False
            return wake

    def wait(self, timeout: float) -> Wake | None:
        """Wait until it is time; None if it was not within `timeout` seconds."""
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


class Backend(Protocol):
    """Something that gives hints when the folder changes."""

    def start(self) -> None:
        """Begin.

        Raises:
            OSError: The system does not let us.
        """

    def stop(self) -> None:
        """End, and wait for all threads."""

    @property
    def broken(self) -> str:
        """Why it does not see everything (any more); empty while it does."""


class Watcher:
    """Watches one folder, which may be replaced, removed and made again.

    Args:
        root: The folder.
        quiet: See `Hints`.
        longest: See `Hints`.
        note: Called with a sentence when watching has to become polling.
        clock: Monotonic seconds.
        backend: Makes a backend for a folder, its rules and a hint (tests).
        hint: Gets the hints instead of this watcher's own `wait`.
    """

    def __init__(
        self,
        root: Path,
        *,
        quiet: float = 0.015,
        longest: float = 0.5,
        note: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        backend: Callable[[Path, Rules, Callable[[str | None], None]], Backend] | None = None,
        hint: Callable[[str | None], None] | None = None,
    ) -> None:
        self._root = root
        self._hints = Hints(quiet=quiet, longest=longest, clock=clock)
        self._hint = hint or self._hints.note
        self._note = note
        self._make_backend = backend or _backend
        self._backend: Backend | None = None
        self._armed: tuple[int, int, Rules] | None = None
        self._interval = ABSENT
        self._noted = ""

    @property
    def interval(self) -> float:
        """Seconds after which to look even without a wake."""
        return self._interval

    def beside(self, root: Path, *, prefix: str) -> Watcher:
        """A watcher of another folder, whose hints wake this one.

        Args:
            root: The folder.
            prefix: Put before its paths.
        """
        return Watcher(
            root,
            note=self._note,
            backend=self._make_backend,
            hint=lambda path: self._hints.note(None if path is None else prefix + path),
        )

    def nudge(self) -> None:
        """Let `wait` return at once; from any thread."""
        self._hints.nudge()

    def wait(self, timeout: float) -> Wake | None:
        """Wait for a quiet moment after a change; None if nothing happened in `timeout` seconds."""
        return self._hints.wait(timeout)

    def arm(self, rules: Rules) -> bool:
        """Make sure that the folder which is there *now* is watched; cheap if it is already.

        To be called before each scan: what changes after it causes a hint.

        Returns:
            Whether it was watched without a break, so that all changes since the last call have
            been told.
        """
        try:
            status = os.stat(self._root)
        except OSError:
            self.stop()
            self._interval = ABSENT
            return False
        wanted = (status.st_dev, status.st_ino, rules)
        broken = self._backend.broken if self._backend is not None else ""
        if self._armed == wanted and not broken:
            return self._backend is not None
        if self._armed == wanted and broken == _LIMIT:
            self._poll(broken)
            return False
        self.stop()
        self._armed = wanted
        reason = _silent_file_system(self._root)
        if reason:
            self._poll(reason)
            return False
        try:
            self._backend = self._make_backend(self._root, rules, self._hint)
            self._backend.start()
        except OSError as error:
            self.stop()
            self._armed = wanted
            self._poll(_LIMIT if error.errno in (errno.ENOSPC, errno.EMFILE) else str(error))
        else:
            self._interval = CHECK
        return False

    def stop(self) -> None:
        """Stop watching, until the next `arm`."""
        backend, self._backend, self._armed = self._backend, None, None
        if backend is not None:
            backend.stop()

    def _poll(self, reason: str) -> None:
        self._interval = POLL
        if reason != self._noted:
            self._noted = reason
            self._note(f"{reason}: looking at {self._root} every second instead")


_LIMIT = f"the limit of inotify watches is reached. {LIMIT_HINT} Until then"


def _backend(root: Path, rules: Rules, hint: Callable[[str | None], None]) -> Backend:
    if sys.platform == "linux":
        return InotifyBackend(root, rules, hint)
    return ObserverBackend(root, rules, hint)


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
    return f"{best} is a {kind} file system, which does not tell of changes"


class InotifyBackend:
    """Watches all folders that are not ignored, by inotify.

    Args:
        root: The folder.
        rules: Ignored folders are not watched, and ignored files do not wake anybody.
        hint: Called, in watchdog's thread, with the file that changed, or None for anything.
    """

    def __init__(self, root: Path, rules: Rules, hint: Callable[[str | None], None]) -> None:
        # Only there on Linux.
        from watchdog.observers.inotify_c import (  # noqa: PLC0415
            CallbackId,
            InotifyConstants,
            InotifyFD,
            Mask,
        )

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
        """See `Backend`."""
        if not self._broken and not self._inotify.is_alive():
            return "watchdog's thread has ended"
        return self._broken

    def start(self) -> None:
        """See `Backend`."""
        self._inotify.start()
        with self._lock:
            self._add(b"")

    def stop(self) -> None:
        """See `Backend`."""
        with self._lock:
            self._paths.clear()  # the end of each watch is no change
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
            self._hint(None)  # it does not travel, but it says what does
            return
        if self._ignores(path, is_directory=is_directory):
            return
        if is_directory:
            self._follow(event, path)
        self._hint(None if is_directory else _text(path))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog when a watched folder is gone."""
        with self._lock:
            path = self._paths.pop(wd, None)
            if path is not None:
                self._watched.discard(path)
            if path == b"":
                self._break("the folder is gone")

    def on_queue_overflow(self) -> None:
        """Called by watchdog when events were lost: watch all folders anew, and look at all."""
        self._break("events were lost")

    def _follow(self, event: InotifyEvent, path: bytes) -> None:
        """Watch a folder that came; forget one that was moved away."""
        if event.is_moved_from:
            inside = [
                wd
                for wd, place in self._paths.items()
                if place == path or place.startswith(path + b"/")
            ]
            for wd in inside:
                self._watched.discard(self._paths.pop(wd))
            self._inotify.remove_callbacks([(wd, self._identity) for wd in inside])
        elif event.is_create or event.is_moved_to:
            try:
                self._add(path)
            except OSError as error:
                limit = error.errno in (errno.ENOSPC, errno.ENOMEM)
                self._break(_LIMIT if limit else str(error))

    def _add(self, path: bytes) -> None:
        """Watch a folder and all in it.

        Raises:
            OSError: The limit of watches is reached, or the root cannot be watched.
        """
        folders = [path]
        while folders:
            folder = folders.pop()
            if folder in self._watched:
                continue  # it was found in the folder above before its own event came
            place = os.path.join(self._root, folder) if folder else self._root  # noqa: PTH118
            try:
                wd = self._inotify.add_callback(place, self._mask, self, self._identity)
                if wd < 0:
                    continue  # watchdog keeps silent about folders that we may not read
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
                # Gone again, or unreadable: the scan will say so.

    def _ignores(self, path: bytes, *, is_directory: bool) -> bool:
        text = _text(path)
        return text is not None and self._rules.ignores(text, is_directory=is_directory)

    def _break(self, reason: str) -> None:
        self._broken = reason
        self._hint(None)


def _text(path: bytes) -> str | None:
    """A path as text, if it is any."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return None


class ObserverBackend(FileSystemEventHandler):
    """Watches a folder by watchdog's observer for this system (FSEvents, kqueue, …).

    Args:
        root: The folder.
        rules: Ignored files do not wake anybody.
        hint: Called, in watchdog's thread, with the file that changed, or None for anything.
    """

    def __init__(self, root: Path, rules: Rules, hint: Callable[[str | None], None]) -> None:
        # Heavy, and only needed here.
        from watchdog.observers import Observer  # noqa: PLC0415

        self._root = root
        self._rules = rules
        self._hint = hint
        self._observer = Observer()

    @property
    def broken(self) -> str:
        """See `Backend`."""
        return "" if self._observer.is_alive() else "the observer has ended"

    def start(self) -> None:
        """See `Backend`."""
        self._observer.schedule(self, str(self._root), recursive=True)
        self._observer.start()

    def stop(self) -> None:
        """See `Backend`."""
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
