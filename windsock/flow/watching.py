"""Notices what `invoke test --watch` runs the tests again for: saves, and edits of test files."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import WindsockError
from windsock.events import Attached, Note, Sent, SettingsImported
from windsock.flow.following import events_of
from windsock.sync.rules import Rules
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windsock.events import Event
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment

LOOK_SECONDS = 0.5
"""Between two looks at the test files; a look costs a stat for each."""

ATTACH_SECONDS = 10.0
"""How long the first connection to the sync process is waited for."""

CATCH_UP_SECONDS = 2.0
"""How long the event of a save is waited for that Airflow has parsed already."""

Stamps = dict[Path, tuple[int, int, int]]


class WatchedFiles:
    """The files that the tests are made of, below some folders.

    What editors and Python write beside them does not count, nor does the JUnit report.

    Args:
        paths: Of pytest's arguments: test files or folders, `::` and a test's name may follow.
        project: Relative paths are relative to it. A conftest.py between it and a path counts too.
        report: The JUnit report; empty if there is none.
    """

    def __init__(self, paths: Iterable[str], *, project: Path, report: str = "") -> None:
        self._roots = {(project / path.partition("::")[0]).absolute() for path in paths}
        self._project = project.absolute()
        self._report = (project / report).absolute() if report else None
        self._rules = Rules()

    def look(self) -> Stamps:
        """What tells whether a file has changed, of each file."""
        found: Stamps = {}
        for root in self._roots:
            folders = [each for each in root.parents if each.is_relative_to(self._project)]
            _add(found, (folder / "conftest.py" for folder in folders))
            if root.is_dir():
                _add(found, self._below(root))
            else:
                _add(found, [root])
        return found

    def _below(self, root: Path) -> Iterable[Path]:
        for place, folders, names in os.walk(root):
            folder = Path(place)
            folders[:] = [
                name
                for name in folders
                if not self._rules.ignores(_path(folder / name, root), is_directory=True)
            ]
            for name in names:
                path = folder / name
                if path != self._report and not self._rules.ignores(
                    _path(path, root), is_directory=False
                ):
                    yield path


def _path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _add(found: Stamps, paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # It is gone again, or is not there at all.
            continue
        found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)


class Changes:
    """What has changed since the tests were started last.

    A thread is attached to the sync process, also to the next one if that is started again. So a
    save during a run is noticed, however many there are, as one change.

    Args:
        work: The workspace.
        environment: Which is up.
        files: The test files.
    """

    def __init__(self, work: Workspace, environment: Environment, files: WatchedFiles) -> None:
        self._work = work
        self._client = ControlClient(environment.control_socket)
        self._files = files
        self._condition = threading.Condition()
        self._attached = False
        self._ended = False
        self._changed = False
        self._failed = False
        self._sent: str | None = None
        """The newest snapshot that the thread knows of."""
        self._tested: str | None = None
        self._is_ahead = False
        """Whether the thread has yet to come to the snapshot that is tested."""
        self._stamps: Stamps = {}

    def attach(self) -> None:
        """From now on no change is missed."""
        self._stamps = self._files.look()
        threading.Thread(target=self._listen, name="test-watch", daemon=True).start()
        with self._condition:
            self._condition.wait_for(lambda: self._attached or self._ended, timeout=ATTACH_SECONDS)

    def settle(self, *, timeout: float) -> bool:
        """Wait until Airflow has parsed what is on disk now: this is what is tested next.

        Args:
            timeout: Seconds.

        Returns:
            Whether it has; if not, the reason is shown.
        """
        self._stamps = self._files.look()
        with self._condition:
            self._changed = self._failed = False
        try:
            settled = self._client.barrier(timeout=timeout)
        except WindsockError as error:
            self._work.console.error(error)
            with self._condition:
                self._failed = True
            return False
        with self._condition:
            self._tested = settled.snapshot
            self._is_ahead = self._changed = self._sent not in (None, self._tested)
            # Its event may still be on its way to the thread.
            self._condition.wait_for(lambda: not self._is_ahead, timeout=CATCH_UP_SECONDS)
        return True

    def ran(self) -> None:
        """The tests have run: what they wrote themselves, apart from Python files, is no change."""
        now = self._files.look()
        self._stamps = {
            **{path: stamp for path, stamp in self._stamps.items() if path.suffix == ".py"},
            **{path: stamp for path, stamp in now.items() if path.suffix != ".py"},
        }

    def wait(self) -> bool:
        """Wait until something has changed; false if the environment was stopped instead."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._changed or self._ended, timeout=LOOK_SECONDS)
                if self._ended:
                    return False
                if self._changed:
                    return True
            if self._files.look() != self._stamps:
                return True

    def _listen(self) -> None:
        try:
            with contextlib.suppress(WindsockError):  # It is gone, which is told at the end.
                for event in events_of(self._work, self._client):
                    self._take(event)
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _take(self, event: Event) -> None:
        snapshot: str | None = None
        match event:
            case Attached():
                # What was saved while no sync process ran may have been sent already.
                snapshot = self._stored()
            case Sent():
                snapshot = event.snapshot
        with self._condition:
            if snapshot is not None:
                self._sent = snapshot
                if self._is_ahead and snapshot == self._tested:
                    self._is_ahead = self._changed = False
                self._changed |= self._tested not in (None, snapshot)
            match event:
                case Attached():
                    self._attached = True
                case SettingsImported(summary=summary):
                    self._changed |= bool(summary)
                case Note():
                    pass
                case _:  # What kept the sync, or Airflow, from the newest save may be over.
                    self._changed |= self._failed
            self._condition.notify_all()

    def _stored(self) -> str | None:
        try:
            return self._client.status().get("snapshot")
        except WindsockError:  # It has just ended: the next one says so too.
            return None
