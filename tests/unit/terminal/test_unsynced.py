from __future__ import annotations

from tests.unit.fakes import KeptConsole
from windsock.terminal.places import Places
from windsock.terminal.unsynced import MOST_PATHS, show_unsynced

PLACES = Places("/home/me/dags", {"include": "/home/me/shared"}, here="/home/me")


def shown(problems: dict[str, str]) -> list[str]:
    console = KeptConsole()
    show_unsynced(console, problems, places=PLACES)
    return console.said.splitlines()


def test_each_path_that_is_not_synced_is_told_with_its_reason() -> None:
    assert shown({"x.sock": "a socket", "include/far.py": "it leads outside"}) == [
        "! shared/far.py is not synced: it leads outside",
        "! dags/x.sock is not synced: a socket",
    ]
    assert shown({}) == []


def test_many_paths_that_are_not_synced_are_counted() -> None:
    problems = {f"{number:03}.sock": "a socket" for number in range(MOST_PATHS + 2)}
    *told, last = shown(problems)
    assert len(told) == MOST_PATHS
    assert last == "! 2 more paths are not synced; `invoke status --json` names them all"
    problems.popitem()
    assert shown(problems)[-1].startswith("! 1 more path is not synced")
    problems.popitem()
    assert len(shown(problems)) == MOST_PATHS
