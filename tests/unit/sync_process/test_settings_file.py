from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.unit.fakes import environment
from windsock.airflow.settings_import import Change, Changes
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.events import Event, SettingsFailed, SettingsImported
from windsock.model import ENVIRONMENT_FILE
from windsock.sync_process.settings_file import (
    RETRY_SECONDS,
    SHELL,
    SettingsFile,
    import_file,
    remember_shell,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMPORTED = SettingsImported(summary="")
AWAY = EnvironmentFailure("Airflow does not answer", "It is starting.")


class Watched:
    """A settings file, an import that does what a test says, and what was published."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "airflow_settings.yaml"
        self.env_file = folder / ".env"
        self.state = folder / "state"
        environment(self.state, socket=folder / "control.sock").save(self.state)
        self.times = 0
        self.now = 0.0
        self.error: Exception | None = None
        self.changes: Changes | None = Changes()
        self.published: list[Event] = []
        self.changed: list[str] = []
        self.start()

    def start(self) -> None:
        self.file = SettingsFile(
            self.path,
            self.state,
            self.published.append,
            changed=self.changed.extend,
            env_file=self.env_file,
            run=self._import,
            clock=lambda: self.now,
        )

    def _import(self, path: Path, state_folder: Path, env_file: Path | None) -> Changes | None:
        assert env_file == self.env_file
        assert (path, state_folder) == (self.path, self.state)
        self.times += 1
        if self.error is not None:
            raise self.error
        return self.changes

    def save(self, text: str) -> None:
        self.path.write_text(f"airflow: {{}} # {text}")

    def look(self, *, now: bool = False) -> list[Event]:
        self.published.clear()
        self.file.look(now=now)
        return list(self.published)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_it_is_imported_when_it_comes_changes_and_goes(watched: Watched) -> None:
    watched.changes = None
    assert watched.look() == []
    watched.changes, watched.times = Changes(), 0
    changes: list[Callable[[], None]] = [
        lambda: watched.save("new"),
        lambda: watched.save("changed"),
        watched.path.unlink,
    ]
    for change in changes:
        change()
        assert watched.look() == [IMPORTED]
        assert watched.look() == []
    assert watched.times == 3


def test_a_save_while_nobody_looked_is_imported_and_what_up_imported_is_not(
    watched: Watched,
) -> None:
    watched.save("as it was")
    watched.start()
    assert watched.look() == [IMPORTED]
    watched.start()
    watched.changes = None  # The import compares digests: it was done.
    assert watched.look() == []
    assert watched.look() == []
    assert watched.times == 2


def test_a_save_that_keeps_time_and_size_is_imported(watched: Watched) -> None:
    watched.save("one")
    watched.look()
    before = watched.path.stat()
    watched.save("two")
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.look() == [IMPORTED]


def test_a_save_of_the_environment_file_counts(watched: Watched) -> None:
    watched.save("${NAME}")
    watched.look()
    watched.env_file.write_text("NAME=value")
    assert watched.look() == [IMPORTED]
    assert watched.look() == []


def test_who_reads_what_an_import_changed_is_told(watched: Watched) -> None:
    watched.changes = Changes(
        connections=Change(removed=("supplier",)),
        variables=Change(added=("a",), updated=("b",), unchanged=("c",)),
        pools=Change(added=("slow",)),
    )
    watched.save("new")
    watched.look()
    assert sorted(watched.changed) == ["connections/supplier", "variables/a", "variables/b"]


def test_who_cannot_wait_has_a_failed_import_tried_again_at_once(watched: Watched) -> None:
    watched.error = AWAY
    watched.save("new")
    assert watched.look() != []
    assert watched.file.look(now=True) == AWAY
    watched.error = None
    assert watched.look(now=True) == [IMPORTED]
    assert watched.file.look(now=True) is None


def test_what_is_wrong_in_the_file_stays_until_a_save(watched: Watched) -> None:
    watched.error = ConfigurationError("line 3: …")
    watched.save("wrong")
    assert watched.file.look(now=True) == watched.error
    assert watched.file.look(now=True) == watched.error
    assert watched.times == 1


def test_a_save_that_changes_nothing_is_no_event(watched: Watched) -> None:
    watched.changes = None
    watched.save("a comment")
    assert watched.look() == []


def test_a_save_while_airflow_is_away_is_tried_again_until_it_is_back(watched: Watched) -> None:
    """As it is after a plugin was saved, too: that restarts the API."""
    watched.error = AWAY
    watched.save("new")
    failed = SettingsFailed(message=AWAY.message, hint=AWAY.hint)
    assert watched.look() == [failed]
    assert watched.look() == []
    assert watched.times == 1
    watched.now += RETRY_SECONDS
    assert watched.look() == []  # It failed once more: no news.
    assert watched.times == 2
    watched.error = None
    watched.now += RETRY_SECONDS
    assert watched.look() == [IMPORTED]
    watched.now += RETRY_SECONDS
    assert watched.look() == []
    assert watched.times == 3


def test_a_save_while_an_up_is_under_way_is_imported_after_it(watched: Watched) -> None:
    file = watched.state / ENVIRONMENT_FILE
    text = file.read_text()
    file.unlink()
    watched.save("new")
    assert watched.look() == []
    file.write_text(text)
    assert watched.look() == [IMPORTED]


def test_a_mistake_in_it_waits_for_the_next_save(watched: Watched) -> None:
    watched.error = ConfigurationError("line 3: no conn_id", "Add one.")
    watched.save("a mistake")
    assert watched.look() == [SettingsFailed(message="line 3: no conn_id", hint="Add one.")]
    watched.now += 2 * RETRY_SECONDS
    assert watched.look() == []
    assert watched.times == 1
    watched.save("the same mistake")
    assert len(watched.look()) == 1
    watched.error = None
    watched.save("mended now")
    assert watched.look() == [IMPORTED]


def test_a_failure_that_nobody_expected_says_where_it_was(watched: Watched) -> None:
    watched.error = KeyError("conn_id")
    watched.save("odd")
    [failed] = watched.look()
    assert isinstance(failed, SettingsFailed)
    assert failed.message == "could not import airflow_settings.yaml: KeyError('conn_id')"
    assert "test_settings_file.py" in failed.hint


def test_an_import_has_the_variables_of_the_last_up_and_those_of_env_below_them(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, str] = {}
    monkeypatch.setattr(
        "windsock.airflow.settings_import.import_settings",
        lambda *_, variables, **__: given.update(variables),
    )
    watched.env_file.write_text("PW=of-the-file\nOTHER=${PW}\n")
    monkeypatch.setenv("PW", "of-the-first-up")
    import_file(watched.path, watched.state, watched.env_file)
    assert (given["PW"], given["OTHER"]) == ("of-the-first-up", "of-the-first-up")
    remember_shell(watched.state, {"PW": "of-the-second-up"})
    import_file(watched.path, watched.state, watched.env_file)
    assert (given["PW"], given["OTHER"]) == ("of-the-second-up", "of-the-second-up")
    assert (watched.state / SHELL).stat().st_mode & 0o077 == 0
