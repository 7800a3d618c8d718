"""Rebuild what Airflow is built of when its files change, while `invoke up` follows the saves.

The files are few and change rarely: twice a second each costs one stat. Their contents are compared
once nobody writes to them, so a save that changes nothing, or an edit that is undone, is no change.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.flow.following import show_dags
from windsock.targets import settings_record
from windsock.targets.folder import check_folders
from windsock.targets.plan import run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from windsock.flow.workspace import Workspace
    from windsock.targets.base import Target

LOOK_SECONDS = 0.5
"""Between two looks at the files, and at the terminal for an answer."""

COMMAND = "invoke up --detach"
"""What rebuilds and rolls out in another terminal."""

NOT_REBUILT = "not rebuilt; saves are synced as before"

Stamp = tuple[int, int, int]
Content = dict[Path, bytes]
"""File → digest; a file that does not exist has none."""


class SourcesWatch:
    """Notices which of some files differ from what they were when it was made.

    Args:
        files: Names them; raises `WindsockError` if one of them names another that is not there.
    """

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._known: list[Path] = []
        self._stamps = self._look()
        self._built = self.now()

    def now(self) -> Content:
        """The contents of the files."""
        return {path: digest for path in self._paths() if (digest := _digest(path)) is not None}

    def _paths(self) -> list[Path]:
        # If a file is missing, the known files are still watched; a rebuild reports the error.
        with suppress(WindsockError):
            self._known = list(self._files())
        return self._known

    def _look(self) -> dict[Path, Stamp]:
        found = {}
        for path in self._paths():
            with suppress(OSError):
                status = path.stat()
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def at_rest(self) -> bool:
        """Whether no file was touched since the last look."""
        before, self._stamps = self._stamps, self._look()
        return self._stamps == before

    def changed(self) -> frozenset[Path]:
        """The files that differ from what is built."""
        now = self.now()
        paths = {*now, *self._built}
        return frozenset(path for path in paths if now.get(path) != self._built.get(path))

    def built(self, content: Content) -> None:
        """Remember that what runs is built of this."""
        self._built = content


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


class Rebuilder:
    """Shows what a change means, and does what the setting `rebuild` wants.

    Args:
        work: The workspace.
        running: The target as it was brought up: it is deployed again if a rebuild fails.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        work: Workspace,
        running: Target,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._console = work.console
        self._running = running
        self._clock = clock
        self._watch = SourcesWatch(running.sources)
        self._moving = False
        self._last: Content = self._watch.now()
        self._asking = False

    def look(self) -> None:
        """Look at the files and for an answer, and do what follows; returns when it is done."""
        if self._asking and (answer := self._console.answer()) is not None:
            self._asking = False
            if answer.lower() in {"y", "yes"}:
                self._rebuild()
            else:
                self._console.line(f"not now; `{COMMAND}` in another terminal rebuilds")
        if not self._watch.at_rest():
            self._moving = True
        elif self._moving:
            self._moving = False
            self._consider()

    def _consider(self) -> None:
        now = self._watch.now()
        if now == self._last:
            return
        fresh = {path for path in {*now, *self._last} if now.get(path) != self._last.get(path)}
        self._last = now
        if self._asking:
            self._console.withdraw()
            self._asking = False
        try:
            self._judge(fresh, now)
        except WindsockError as error:  # A file may name another that is yet to be written.
            self._console.warning(f"{_names(fresh)} changed, and cannot be built as it is now:")
            self._console.error(error)

    def _judge(self, fresh: Collection[Path], now: Content) -> None:
        """Show what a change means, and act on it.

        Args:
            fresh: The files that have changed since the last report.
            now: The contents of all files.

        Raises:
            WindsockError: One of the files cannot be used.
        """
        if not self._running.meaning(fresh):
            self._console.warning(
                f"{_names(fresh)} changed: nothing to do on the target {self._running.name}, "
                "only other targets are built of it"
            )
            return
        changed = self._watch.changed()
        if not changed or self._runs_already(now):
            self._console.success(f"{_names(fresh)} changed: what runs is built of it already")
            return
        self._console.warning(f"{_names(changed)} changed: {self._running.meaning(changed)}")
        self._act()

    def _runs_already(self, now: Content) -> bool:
        """Whether another terminal has rebuilt meanwhile."""
        target = self._running.for_rebuild()
        with suppress(WindsockError):
            if target.running() is not None:
                self._running = target
                self._watch.built(now)
                return True
        return False

    def _act(self) -> None:
        wanted = self._work.settings.rebuild
        if wanted == "auto":
            self._rebuild()
        elif wanted == "ask" and self._console.interactive:
            self._asking = True
            self._console.ask("rebuild and restart now? [y/N]")
        else:
            self._console.line(
                f"  `{COMMAND}` in another terminal does it; here with --rebuild auto"
            )

    def _rebuild(self) -> None:
        """Build and roll out; after a failure what ran before runs again."""
        if self._work.differences():
            self._console.warning(f"{NOT_REBUILT}: it was brought up with other settings meanwhile")
            return
        started = self._clock()
        content = self._last
        try:
            # A folder that is missing halts the sync, and Airflow waits for the sync to start.
            check_folders(self._work.settings)
            target = self._running.for_rebuild()
            with target.locked():
                run_steps(target.prepare(), self._console)  # Nothing that runs is touched by it.
                if not self._rolled_out(target):
                    self._console.warning(NOT_REBUILT)
                    return
            self._running = target
            self._watch.built(content)
            settings_record.save(self._work.settings, self._work.variables())
            self._console.success(f"rebuilt and rolled out in {self._clock() - started:.1f} s")
            show_dags(self._work, self._work.environment())
        except WindsockError as error:
            self._console.error(error)
            if self._watch.changed():
                self._console.warning(NOT_REBUILT)

    def _rolled_out(self, target: Target) -> bool:
        try:
            self._deploy(target)
        except WindsockError as error:
            self._console.error(error)
            self._console.warning("going back to what ran before")
            self._deploy(self._running)
            return False
        return True

    def _deploy(self, target: Target) -> None:
        run_steps(target.deploy(), self._console)
        target.wait(self._console).save(self._work.settings.state_folder)


def _names(paths: Collection[Path]) -> str:
    return ", ".join(sorted({path.name for path in paths}))


def in_background(
    work: Callable[[threading.Event], int],
    look: Callable[[], None],
    *,
    every: float = LOOK_SECONDS,
) -> int:
    """Run `work` in a thread, and `look` in this one again and again until it is done.

    An interrupt arrives in this thread; the other thread is then abandoned.

    Args:
        work: Gets an event that is set when it is abandoned, after which it must print nothing
            more. Its result is returned, what it raises is raised.
        look: Called each time that `every` has passed.
        every: Seconds.
    """
    outcome: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    left = threading.Event()

    def put_outcome() -> None:
        try:
            outcome.put(work(left))
        except BaseException as error:  # noqa: BLE001 - raised in the other thread
            outcome.put(error)

    threading.Thread(target=put_outcome, daemon=True).start()
    try:
        while True:
            with suppress(queue.Empty):
                came = outcome.get(timeout=every)
                break
            look()
    finally:
        left.set()
    if isinstance(came, BaseException):
        raise came
    return came
