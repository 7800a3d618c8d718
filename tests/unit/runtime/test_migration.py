from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any, Self

import pytest

from windsock.runtime import migration
from windsock.runtime.migration import DatabaseUnreachable, Refused, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = frozenset({"d2f4e1b3c5a7"})
AWAY = DatabaseUnreachable("connection refused")


class Database:
    """Gives one answer a read, the last one again and again. Its clock moves only by sleeping."""

    def __init__(self, *answers: frozenset[str] | Exception) -> None:
        self._answers = iter(answers)
        self._last = answers[-1]
        self.now = 0.0

    def read(self) -> frozenset[str]:
        self._last = next(self._answers, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait_for(self, wanted: frozenset[str] | None) -> frozenset[str]:
        return wait_for(wanted, self.read, seconds=5, clock=lambda: self.now, sleep=self.sleep)


def test_a_database_that_is_migrated_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(HEAD)
    assert database.wait_for(HEAD) == HEAD
    assert (database.now, capsys.readouterr().err) == (0, "")


def test_each_reason_to_wait_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    Database(AWAY, AWAY, frozenset(), frozenset(), frozenset({"old"}), HEAD).wait_for(HEAD)
    first, second = capsys.readouterr().err.splitlines()
    assert "connection refused" in first
    assert "d2f4e1b3c5a7" in second


@pytest.mark.parametrize(
    ("answer", "wanted", "reason"),
    [(frozenset({"old"}), HEAD, "airflow-migrate"), (AWAY, None, "connection refused")],
)
def test_what_does_not_come_in_time_is_a_failure(
    answer: frozenset[str] | Exception, wanted: frozenset[str] | None, reason: str
) -> None:
    database = Database(answer)
    with pytest.raises(SystemExit, match=f"gave up after 5 s: .*{reason}"):
        database.wait_for(wanted)
    assert 5 <= database.now < 6


def test_a_wrong_password_is_a_failure_at_once() -> None:
    database = Database(Refused("password authentication failed"))
    with pytest.raises(SystemExit, match="other passwords"):
        database.wait_for(HEAD)
    assert database.now == 0


def test_a_fresh_database_answers_too() -> None:
    assert Database(AWAY, frozenset()).wait_for(None) == frozenset()


def test_outside_an_image_nothing_is_waited_for() -> None:
    migration.wait_if_in_an_image({migration.URL_VARIABLE: "postgresql://nowhere/nothing"})


@pytest.fixture
def head(tmp_path: Path) -> str:
    (tmp_path / "head").write_text("\n".join(HEAD))
    return str(tmp_path / "head")


def test_a_secret_that_lacks_the_database_is_named(head: str) -> None:
    with pytest.raises(SystemExit, match="airflow-secrets"):
        migration.wait_if_in_an_image({migration.HEAD_VARIABLE: head})


class Psycopg2:
    """Stands for psycopg2, its connection and its cursor, at a database that is migrated."""

    OperationalError = ConnectionError
    errors = types.SimpleNamespace(UndefinedTable=LookupError)

    def connect(self, url: str, **_: Any) -> Self:
        assert url == "postgresql://here/airflow"
        return self

    def cursor(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, _query: str) -> None:
        pass

    def __iter__(self) -> Iterator[tuple[str]]:
        return ((each,) for each in HEAD)

    def close(self) -> None:
        pass


def test_a_migrated_database_needs_no_airflow(
    monkeypatch: pytest.MonkeyPatch, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(migration.HEAD_VARIABLE, head)
    monkeypatch.setenv(migration.URL_VARIABLE, "postgresql+psycopg2://here/airflow")
    monkeypatch.setitem(sys.modules, "psycopg2", Psycopg2())
    migration.main()  # Airflow is not even installed here.
    assert "nothing to migrate: the database is at d2f4e1b3c5a7" in capsys.readouterr().out
