from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.terminal.places import Places
from windsock.terminal.remedies import remedy

if TYPE_CHECKING:
    from pathlib import Path

HIVE = "    from airflow.providers.apache.hive.operators.hive import HiveOperator"


@pytest.mark.parametrize(
    ("headline", "lines", "words"),
    [
        (
            "ModuleNotFoundError: No module named 'airflow.providers.http'",
            ["    from airflow.providers.http.operators.http import HttpOperator"],
            "Add apache-airflow-providers-http to your requirements",
        ),
        (
            "ModuleNotFoundError: No module named 'airflow.providers.apache'",
            ["    from airflow.providers.http.operators.http import HttpOperator", HIVE],
            "Add apache-airflow-providers-apache-hive to your requirements",
        ),
        (
            "ModuleNotFoundError: No module named 'airflow.providers.cncf.kubernetes.pod'",
            [],
            "apache-airflow-providers-cncf-kubernetes that is installed has no such module",
        ),
        (
            "ModuleNotFoundError: No module named 'airflow.operators.bash_operator'",
            [],
            "Use airflow.providers.standard.operators.bash",
        ),
        (
            "ModuleNotFoundError: No module named 'airflow.nowhere'",
            [],
            "This Airflow has no such module",
        ),
        (
            "ImportError: cannot import name 'days_ago' from 'airflow.utils.dates' (/a.py)",
            [],
            "a fixed start_date",
        ),
        ("ModuleNotFoundError: No module named 'pandsa'", [], "Is it a package?"),
        ("RuntimeError: can't start new thread", [], "`parse.memory_limit_mb`"),
        ("ImportError: libx.so: failed to map segment from shared object", [], "memory_limit_mb"),
        ("the import ended (out of memory? The limit is 2048 MiB)", [], "memory_limit_mb"),
        ("numpy.exceptions._ArrayMemoryError: no room", [], "memory_limit_mb"),
        (
            "ModuleNotFoundError: No module named 'airflow.sdk'; 'airflow' is not a package",
            [],
            "Is a file airflow.py of yours in the way of the package? Rename it.",
        ),
        ("AirflowTaskTimeout: the import had not ended after 3.0 s", [], "`parse.import_timeout`"),
    ],
)
def test_an_error_says_what_to_do(headline: str, lines: list[str], words: str) -> None:
    assert words in remedy(headline, lines, places=Places("/nowhere/dags"))


@pytest.mark.parametrize(
    "headline",
    [
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "OperationalError: the server answered: Resource temporarily unavailable",
        "ValueError: a MemoryError came before",
        "NameError: name 'x' is not defined",
        "ImportError: cannot import name 'a' from 'half' (dags/half.py)",
        "import failed",
    ],
)
def test_where_there_is_nothing_to_say_nothing_is_said(headline: str) -> None:
    lines = ["    except MemoryError:"]
    assert remedy(headline, lines, places=Places("/nowhere/dags")) == ""


def test_a_module_beside_the_dag_folder_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "operators").mkdir()
    headline = "ModuleNotFoundError: No module named 'operators'"
    places = Places(str(tmp_path / "dags"), here=str(tmp_path))
    assert "Is it a package?" in remedy(headline, [], places=places)
    (tmp_path / "operators" / "mine.py").touch()
    said = remedy(headline, [], places=places)
    assert "Is the repository's root to be importable?" in said
    assert "`sync: {folders: {operators: operators}}`" in said
