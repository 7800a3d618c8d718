"""Imports airflow_settings.yaml whenever it changes; `invoke up` does the first import."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, explained
from windsock.events import Event, SettingsFailed, SettingsImported
from windsock.model import ENVIRONMENT_FILE, Environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from windsock.airflow.settings_import import Changes

RETRY_SECONDS = 5.0
"""Until an import is tried again that failed because Airflow did not answer."""


def import_file(path: Path, state_folder: Path) -> Changes | None:
    """Import the file into the running environment; None if nothing in it has changed."""
    from windsock.airflow.settings_import import import_settings  # noqa: PLC0415 - only on a change

    return import_settings(path, Environment.load(state_folder), state_folder=state_folder)


class SettingsFile:
    """The file, and its last import; `run` imports it, by a clock of monotonic seconds."""

    def __init__(
        self,
        path: Path,
        state_folder: Path,
        publish: Callable[[Event], None],
        *,
        run: Callable[[Path, Path], Changes | None] = import_file,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._state_folder = state_folder
        self._publish = publish
        self._run = run
        self._clock = clock
        self._seen = self._stamp()
        self._retry_at = math.inf
        self._failure: Event | None = None

    def look(self) -> None:
        """Import the file if it changed, or if the last import is to be tried again."""
        stamp = self._stamp()
        due = stamp != self._seen or self._clock() >= self._retry_at
        if not due or not (self._state_folder / ENVIRONMENT_FILE).exists():
            return
        failure: Event | None = None
        self._retry_at = math.inf
        try:
            changes = self._run(self._path, self._state_folder)
        except Exception as error:  # noqa: BLE001 - the next save or attempt may do
            found = explained(error, doing=f"import {self._path.name}")
            failure = SettingsFailed(message=found.message, hint=found.hint)
            if not isinstance(error, ConfigurationError):  # Only a save can repair that.
                self._retry_at = self._clock() + RETRY_SECONDS
            if failure != self._failure or stamp != self._seen:
                self._publish(failure)
        else:
            if changes is not None:
                self._publish(SettingsImported(summary=changes.summary()))
        self._seen, self._failure = stamp, failure

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size
