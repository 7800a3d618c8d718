from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection

    from windsock.runtime.processor.folder_problems import FolderProblems

MODULE = "windsock.runtime.processor.folder_problems"
DATABASE = "windsock.runtime.processor.database"


class Database(ModuleType):
    """The errors that are stored, of a database that may fail."""

    def __init__(self) -> None:
        super().__init__(DATABASE)
        self.errors: dict[str, str] = {}
        self.fails = False

    def replace_errors(self, bundle: str, errors: dict[str, str], *, gone: Collection[str]) -> None:
        assert bundle == "dags"
        if self.fails:
            raise OSError("the database is gone")
        self.errors = {path: text for path, text in self.errors.items() if path not in gone}
        self.errors.update(errors)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def problems(database: Database, monkeypatch: pytest.MonkeyPatch) -> FolderProblems:
    loggers: Any = SimpleNamespace(get_logger=logging.getLogger)  # Only Airflow has structlog.
    monkeypatch.setitem(sys.modules, "structlog", loggers)
    monkeypatch.setitem(sys.modules, DATABASE, database)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    from windsock.runtime.processor.folder_problems import (  # noqa: PLC0415 - needs the above
        FolderProblems,
    )

    monkeypatch.delitem(sys.modules, MODULE)
    return FolderProblems("dags")


def test_problems_are_told_once_and_stored_until_they_are_healed(
    problems: FolderProblems, database: Database
) -> None:
    events, healed = problems.take({"link": "it leads here"}, "one")
    assert [event.errors for event in events] == [{"link": "it leads here"}]
    assert problems.take({"link": "it leads here"}, "two") == ([], [])
    assert database.errors == {"link": "it leads here"}

    assert problems.take({}, "three") == ([], ["link"])
    assert healed == []
    assert database.errors == {}


def test_what_could_not_be_stored_is_stored_at_the_next_save(
    problems: FolderProblems, database: Database
) -> None:
    database.fails = True
    [event], _ = problems.take({"link": "it leads here"}, "one")
    assert event.file == "link"
    database.fails = False
    assert problems.take({"link": "it leads here"}, "two") == ([], [])
    assert database.errors == {"link": "it leads here"}

    database.fails = True
    assert problems.take({}, "three") == ([], ["link"])
    database.fails = False
    assert problems.take({}, "four") == ([], [])
    assert database.errors == {}
