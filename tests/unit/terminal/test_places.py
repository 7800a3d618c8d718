from __future__ import annotations

import pytest

from windsock.terminal.places import Places

PLACES = Places(
    "/home/me/work/dags",
    {"include": "/home/me/work/shared", "plugins": "/srv/plugins"},
    here="/home/me/work",
)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("trade.py", "dags/trade.py"),
        ("team/trade.py", "dags/team/trade.py"),
        ("include/half.py", "shared/half.py"),
        ("include", "shared"),
        ("plugins/menu.py", "/srv/plugins/menu.py"),
    ],
)
def test_a_path_of_a_snapshot_is_shown_where_its_author_has_it(path: str, shown: str) -> None:
    assert PLACES.shown(path) == shown


@pytest.mark.parametrize(
    ("here", "shown"),
    [
        ("/home/me/work/dags", "trade.py"),
        ("/home/me/work/dags/team", "../trade.py"),
        ("/home/me/other", "../work/dags/trade.py"),
        ("/opt/some/where/deep/down", "/home/me/work/dags/trade.py"),
    ],
)
def test_it_is_relative_to_where_the_person_stands(here: str, shown: str) -> None:
    assert Places("/home/me/work/dags", here=here).shown("trade.py") == shown


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/home/me/work/dags/trade.py", "dags/trade.py"),
        ("/home/me/work/dags/include/half.py", "shared/half.py"),
        ("/home/me/work/shared/half.py", "shared/half.py"),
        ("/home/me/work/dags/many.zip/inner.py", "dags/many.zip/inner.py"),
        ("/home/me/work/dags2/trade.py", None),
        (f"/srv/a b/store/snapshots/{'0f' * 16}/team/trade.py", "dags/team/trade.py"),
        (f"/store/snapshots/{'0f' * 16}/include/half.py", "shared/half.py"),
        ("/state/store/current/trade.py", "dags/trade.py"),
        ("/store/snapshots/0f/trade.py", None),
        ("/venv/airflow/models.py", None),
        ("<frozen importlib._bootstrap>", None),
    ],
)
def test_a_file_of_a_traceback_is_the_authors_or_not(file: str, shown: str | None) -> None:
    assert PLACES.own(file) == shown


def test_a_text_shows_paths_alike() -> None:
    text = (
        "cannot import name 'a' from 'half' (/home/me/work/dags/include/half.py), "
        "seen from /home/me/work/dags/trade.py:3 and /old/home/me/work/dags/x.py"
    )
    assert PLACES.in_text(text) == (
        "cannot import name 'a' from 'half' (shared/half.py), "
        "seen from dags/trade.py:3 and /old/home/me/work/dags/x.py"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("read {}/include/a.csv: gone", "read shared/a.csv: gone"),
        ("'half' ({}/half.py)", "'half' (dags/half.py)"),
        ("sys.path=['/lib', '{}']", "sys.path=['/lib', '{}']"),
        ("in '/a b{}/x.py' and '{}/y.py'", "in 'dags/x.py' and 'dags/y.py'"),
        ('File "/a\'s (b) c{}/x.py", line 1', 'File "dags/x.py", line 1'),
        ("it's at {}/x.py, isn't it", "it's at dags/x.py, isn't it"),
        ("from=a{}/x.py", "from=a{}/x.py"),
    ],
)
def test_a_text_of_a_task_shows_paths_of_the_snapshot_alike(text: str, shown: str) -> None:
    snapshot = "/store/snapshots/" + "0f" * 16
    found = PLACES.in_text(text.replace("{}", snapshot))
    assert found == shown.replace("{}", snapshot)


@pytest.mark.parametrize("folder", ["/home/bob/dags", "dags"])
def test_the_frame_of_the_dag_file_tells_how_another_machine_named_the_folder(folder: str) -> None:
    """On Okteto an environment knows no more than the folder's name."""
    library = "/venv/lib/python3.11/site-packages/airflow/trade.py"
    files = [library, f"{folder}/trade.py", f"{folder}/include/half.py"]
    places = PLACES.as_named_by(files, path="trade.py")
    shown = [places.own(file) for file in files]
    assert shown == [None, "dags/trade.py", "shared/half.py"]
    assert PLACES.as_named_by([library], path="trade.py") == PLACES
    assert PLACES.as_named_by(["/home/me/work/dags/x.py", *files], path="trade.py") == PLACES
