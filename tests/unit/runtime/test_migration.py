from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from windsock.runtime import migration
from windsock.runtime.migration import DatabaseUnreachable, Refused, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = frozenset({"d2f4e1b3c5a7"})


class Database:
    """Answers as told, one answer a read; the last one stays. Its clock moves only by sleeping."""

    def __init__(self, *answers: frozenset[str] | Exception) -> None:
        self._answers: Iterator[frozenset[str] | Exception] = iter(answers)
        self._last: frozenset[str] | Exception = DatabaseUnreachable("never asked")
        self.now = 0.0
        self.said: list[str] = []

    def read(self) -> frozenset[str]:
        self._last = next(self._answers, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def waiting(self, seconds: float = 10) -> Waiting:
        return Waiting(
            self.read,
            seconds=seconds,
            clock=lambda: self.now,
            sleep=self.sleep,
            print_line=self.said.append,
        )


def test_a_database_that_is_migrated_is_not_waited_for() -> None:
    database = Database(HEAD)
    database.waiting().for_migration(HEAD)
    assert database.now == 0
    assert database.said == []


def test_each_reason_to_wait_is_told_once() -> None:
    refused = DatabaseUnreachable("connection refused")
    database = Database(refused, refused, frozenset(), frozenset(), frozenset({"old"}), HEAD)
    database.waiting().for_migration(HEAD)
    assert len(database.said) == 2
    assert "connection refused" in database.said[0]
    assert "d2f4e1b3c5a7" in database.said[1]


def test_a_migration_that_does_not_come_is_a_failure() -> None:
    database = Database(frozenset({"old"}))
    with pytest.raises(SystemExit) as caught:
        database.waiting(seconds=5).for_migration(HEAD)
    assert "gave up after 5 s" in str(caught.value)
    assert "airflow-migrate" in str(caught.value)
    assert 5 <= database.now < 6


def test_a_database_that_does_not_answer_is_a_failure() -> None:
    with pytest.raises(SystemExit) as caught:
        Database(DatabaseUnreachable("no route to host")).waiting().for_database()
    assert "no route to host" in str(caught.value)


def test_a_wrong_password_is_a_failure_at_once() -> None:
    database = Database(Refused("password authentication failed"))
    with pytest.raises(SystemExit) as caught:
        database.waiting().for_migration(HEAD)
    assert "other passwords" in str(caught.value)
    assert database.now == 0


def test_a_fresh_database_answers_too() -> None:
    assert (
        Database(DatabaseUnreachable("starting"), frozenset()).waiting().for_database()
        == frozenset()
    )


def test_the_needed_migrations_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "head").write_text("aaa\nbbb\n")
    wanted = migration.wanted_heads({migration.HEAD_VARIABLE: str(tmp_path / "head")})
    assert wanted == {"aaa", "bbb"}


def test_outside_an_image_nothing_is_waited_for() -> None:
    migration.wait_if_in_an_image({migration.URL_VARIABLE: "postgresql://nowhere/nothing"})


def test_a_secret_that_lacks_the_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "head").write_text("aaa\n")
    with pytest.raises(SystemExit) as caught:
        migration.wait_if_in_an_image({migration.HEAD_VARIABLE: str(tmp_path / "head")})
    assert "airflow-secrets" in str(caught.value)


def test_a_database_that_is_where_it_should_be_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "head").write_text("d2f4e1b3c5a7\n")
    monkeypatch.setitem(os.environ, migration.HEAD_VARIABLE, str(tmp_path / "head"))
    monkeypatch.setitem(os.environ, migration.URL_VARIABLE, "postgresql://here/airflow")
    monkeypatch.setattr(migration, "read_heads", lambda _: HEAD)
    migration.main()  # Airflow is not even installed here.
    assert "nothing to migrate" in capsys.readouterr().out
