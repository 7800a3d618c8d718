from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from windsock.events import Parsed
from windsock.runtime.processor.listing import Listing
from windsock.runtime.processor.remarks import Remarks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNCALLED = "@dag\ndef sales(): ...\n"


class Folder:
    """A snapshot, its listing and its parses, and the remarks on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listing = Listing()
        self.parses: dict[str, Parsed] = {}
        self.remarks = Remarks()

    def save(self, name: str, source: str = "", **parsed: Any) -> None:
        """Save a file; it is parsed if anything is said of its parse."""
        self.path.joinpath(name).parent.mkdir(exist_ok=True)
        self.path.joinpath(name).write_text(source)
        self.remarks.note_save([name])
        if parsed:
            parse = Parsed(snapshot="0f", file=name, dags={}, errors={}, seconds=0)
            self.parses[name] = replace(parse, **parsed)

    def delete(self, name: str) -> None:
        self.path.joinpath(name).unlink()
        self.remarks.note_save([name])
        self.parses.pop(name, None)

    def told(self) -> list[tuple[str, int | None, bool]]:
        """File, line and news of all warnings."""
        found = self.remarks.tell(self.path, self.listing, self.parses)
        return [(each.file, each.line, each.news) for each in found]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_saved_file_without_a_dag_is_told_at_each_of_its_saves(folder: Folder) -> None:
    folder.save("sales.py", UNCALLED, dags={})
    assert folder.told() == [("sales.py", 2, True)]
    folder.save("other.py", dags={"other": 1})
    assert folder.told() == [("sales.py", 2, False)]
    folder.save("sales.py", f"\n{UNCALLED}", dags={})
    assert folder.told() == [("sales.py", 3, True)]
    folder.save("sales.py", f"{UNCALLED}sales()\n", dags={"sales": 1})
    assert folder.told() == []


def test_a_broken_file_has_its_error_and_no_warning(folder: Folder) -> None:
    folder.save("sales.py", UNCALLED, errors={"sales.py": "SyntaxError"})
    assert folder.told() == []


def test_what_a_dag_file_uses_or_imports_when_a_task_runs_is_no_matter(folder: Folder) -> None:
    folder.listing = Listing(left_out={"lib": "it is ignored by line 1 of .airflowignore"})
    folder.save("lib/used.py")
    folder.save("lib/lazy.py")
    folder.save("lib/lonely.py")
    folder.save("lib/__init__.py")
    folder.save("notes.txt")
    source = "def task():\n    from lib import lazy\n"
    folder.save("sales.py", source, dags={"sales": 1}, used=("sales.py", "lib/used.py"))
    assert folder.told() == [("lib/lonely.py", None, True)]
    assert "line 1 of .airflowignore" in folder.remarks.told[0].message

    folder.delete("lib/lonely.py")
    assert folder.told() == []


def test_a_name_that_is_imported_from_elsewhere_is_no_file_of_the_folder(folder: Folder) -> None:
    source = "from airflow.sdk import dag\nfrom .near import task\nimport helper\n"
    folder.save("sales.py", source, dags={"sales": 1})
    for name in ("dag", "near", "task", "helper"):
        folder.save(f"{name}.py", dags={})
    assert folder.told() == [("dag.py", None, True)]


class Unread(tuple[str, ...]):
    """What a parse used, which nobody is to look at."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        raise AssertionError


def test_a_file_that_is_called_like_a_package_is_told(folder: Folder) -> None:
    folder.save(
        "first.py", "import json\nimport helper\n" + UNCALLED + "sales()\n", dags={"sales": ()}
    )
    names = ("json.py", "team/json.py", "team/helper.py")
    for name in names:
        folder.save(name)
    folder.listing = Listing(left_out=dict.fromkeys(names, "why"))
    assert [name for name, _, _ in folder.told()] == ["json.py", "team/json.py"]


def test_uses_are_only_looked_at_if_a_saved_file_is_silent(folder: Folder) -> None:
    folder.save("sales.py", dags={"sales": 1}, used=Unread(("lib.py",)))
    assert folder.told() == []


def test_a_link_to_a_name_that_is_too_long_is_no_file(folder: Folder) -> None:
    folder.save("sales.py", UNCALLED, dags={})
    folder.path.joinpath("sales.py").unlink()
    folder.path.joinpath("sales.py").symlink_to("x" * 300)
    assert folder.told() == []


def test_nothing_is_kept_of_a_file_that_is_gone(folder: Folder) -> None:
    folder.save("sales.py", UNCALLED, dags={})
    assert folder.told() == [("sales.py", 2, True)]
    assert set(folder.remarks._reasons) == set(folder.remarks._words) == {"sales.py"}
    folder.delete("sales.py")
    assert folder.told() == []
    assert not folder.remarks._reasons
    assert not folder.remarks._words


def test_files_of_before_are_not_asked_about(folder: Folder) -> None:
    folder.save("sales.py", UNCALLED, dags={})
    folder.remarks = Remarks()
    assert folder.told() == []


@pytest.mark.parametrize("leaver", ["first.py", "second.py"])
def test_two_files_with_one_dag_are_told_until_either_is_gone(folder: Folder, leaver: str) -> None:
    folder.save("first.py", dags={"twin": 1})
    assert folder.told() == []
    folder.save("second.py", dags={"twin": 1, "other": 1})
    assert folder.told() == [("second.py", None, True)]
    assert "'twin' is also defined in first.py" in folder.remarks.told[0].message
    assert folder.told() == [("second.py", None, False)]
    folder.delete(leaver)
    assert folder.told() == []


def test_a_moved_file_is_no_twin(folder: Folder) -> None:
    folder.save("first.py", dags={"twin": 1})
    folder.delete("first.py")
    folder.save("second.py", dags={"twin": 1})
    assert folder.told() == []


VARYING = """\
This Dag uses runtime-variable values in Dag construction.

Line 7, Col 4
Code: datetime.now()
Issue: Don't use runtime-varying value as argument in Dag constructor
"""


def test_a_value_that_changes_with_each_parse_is_told_once_with_its_line(folder: Folder) -> None:
    folder.save("sales.py", dags={"one": 1, "two": 1})
    warnings = [{"dag_id": dag_id, "message": VARYING} for dag_id in ("one", "two")]
    folder.remarks.note_parse("sales.py", warnings)
    assert folder.told() == [("sales.py", 7, True)]
    assert "`datetime.now()`" in folder.remarks.told[0].message
    folder.remarks.note_parse("sales.py", warnings)  # The clock has it parsed again.
    assert folder.told() == [("sales.py", 7, False)]
    folder.remarks.note_parse("sales.py", [])
    assert folder.told() == []
