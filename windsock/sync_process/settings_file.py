"""Imports airflow_settings.yaml whenever it changes; `invoke up` does the first import."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, WindsockError, explained
from windsock.events import Event, SettingsFailed, SettingsImported
from windsock.files import write_whole
from windsock.model import ENVIRONMENT_FILE, Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from windsock.airflow.settings_import import Changes

RETRY_SECONDS = 5.0
"""Until an import is tried again that failed because Airflow did not answer."""

SHELL = "shell.json"
"""Below the state folder: the variables of the shell of the last `up`."""

Stamp = tuple[int, ...]


def import_file(path: Path, state_folder: Path, env_file: Path | None) -> Changes | None:
    """Import the file into the running environment; None if nothing in it has changed."""
    environment = Environment.load(state_folder)
    return import_with(path, environment, state_folder, env_file, last_shell(state_folder))


def import_with(
    path: Path,
    environment: Environment,
    state_folder: Path,
    env_file: Path | None,
    shell: Mapping[str, str],
) -> Changes | None:
    """Import the file with the variables of `.env` and of a shell, which wins, for `${NAME}`."""
    from windsock.airflow.settings_import import import_settings  # noqa: PLC0415 - only on a change
    from windsock.local.variables import read_env_file  # noqa: PLC0415 - the same

    variables = read_env_file(env_file, shell) if env_file else {}
    return import_settings(
        path, environment, state_folder=state_folder, variables={**variables, **shell}
    )


def remember_shell(state_folder: Path, shell: Mapping[str, str]) -> None:
    """Keep the variables of this `up` for imports to come; only their owner may read them."""
    write_whole(state_folder / SHELL, json.dumps(dict(shell)))


def last_shell(state_folder: Path) -> Mapping[str, str]:
    """The variables of the last `up`: this process may have been started by an earlier one."""
    try:
        found: dict[str, str] = json.loads((state_folder / SHELL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return os.environ
    return found


class SettingsFile:
    """The file, and its last import; all methods may be called from any thread.

    The first look imports the file whatever it was before: the import itself compares digests, so
    a save that came while nobody looked is noticed, and nothing is done twice.

    Args:
        path: Of the file.
        state_folder: Of the environment.
        publish: Gets `SettingsImported` and `SettingsFailed`.
        changed: Gets the names of the variables and connections that an import has changed, before
            the import is published.
        env_file: The project's environment file, for `${NAME}`.
        run: Does an import.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        path: Path,
        state_folder: Path,
        publish: Callable[[Event], None],
        *,
        changed: Callable[[Iterable[str]], None],
        env_file: Path | None = None,
        run: Callable[[Path, Path, Path | None], Changes | None] = import_file,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._state_folder = state_folder
        self._publish = publish
        self._on_change = changed
        self._env_file = env_file
        self._run = run
        self._clock = clock
        self._looking = threading.Lock()
        self._seen: Stamp | None = None
        self._retry_at = math.inf
        self._failure: WindsockError | None = None

    def look(self, *, now: bool = False) -> WindsockError | None:
        """Import the file if it changed, or if the last import is to be tried again.

        Args:
            now: Try a failed import again at once.

        Returns:
            Why the file as it is now is not imported; None if it is.
        """
        with self._looking:
            stamp = self._stamp()
            due = self._retry_at < math.inf if now else self._clock() >= self._retry_at
            if stamp == self._seen and not due:
                return self._failure
            if not (self._state_folder / ENVIRONMENT_FILE).exists():
                return None  # An `up` is under way, and imports it.
            before, self._failure = self._failure, self._import()
            if self._failure is not None and not (
                stamp == self._seen and before is not None and _same(before, self._failure)
            ):
                failure = self._failure
                self._publish(SettingsFailed(message=failure.message, hint=failure.hint))
            self._seen = stamp
            return self._failure

    def _import(self) -> WindsockError | None:
        self._retry_at = math.inf
        try:
            changes = self._run(self._path, self._state_folder, self._env_file)
        except Exception as error:  # noqa: BLE001 - the next save or attempt may do
            if not isinstance(error, ConfigurationError):  # Only a save can repair that.
                self._retry_at = self._clock() + RETRY_SECONDS
            return explained(error, doing=f"import {self._path.name}")
        if changes is not None:
            self._on_change(changes.names())
            self._publish(SettingsImported(summary=changes.summary()))
        return None

    def _stamp(self) -> Stamp:
        """What every save of one of the two files changes."""
        stamp: Stamp = ()
        for path in filter(None, (self._path, self._env_file)):
            try:
                status = path.stat()
            except OSError:
                stamp += (0,)
            else:
                stamp += (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)
        return stamp


def _same(one: WindsockError, other: WindsockError) -> bool:
    return (one.message, one.hint) == (other.message, other.hint)
