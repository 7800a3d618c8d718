from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.errors import ConfigurationError
from windsock.local.variables import ignored, project_variables, read_env_file

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
# for Astro, Compose and windsock
AIRFLOW_VAR_CURRENCY=EUR
export AIRFLOW_CONN_SUPPLIER='http://user:pa$$word@host/?a=b#c'
GREETING="two words" # said at the door
LINES="one\\ntwo"
EMPTY=
FROM_SHELL
AIRFLOW__CORE__TEST_CONNECTION=Enabled
DOOR=${GREETING}!
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(FILE)
    return path


def test_the_file_is_read_as_other_tools_read_it(file: Path) -> None:
    assert read_env_file(file, {"FROM_SHELL": "yes"}) == {
        "AIRFLOW_VAR_CURRENCY": "EUR",
        "AIRFLOW_CONN_SUPPLIER": "http://user:pa$$word@host/?a=b#c",
        "GREETING": "two words",
        "LINES": "one\ntwo",
        "EMPTY": "",
        "FROM_SHELL": "yes",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "DOOR": "two words!",
    }


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=$(touch ran)\nB=`touch ran`\n")
    assert read_env_file(path, {}) == {"A": "$(touch ran)", "B": "`touch ran`"}


def test_single_quotes_are_literal_and_the_shell_wins_within_values_too(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "HOST=here\nA='pa${ss}word'\nexport B = 'x${HOST}' # '\n"
        """C="${HOST}'s"\nD=${HOST}\nE=${NOWHERE:-there}\nF=a'${HOST}'\n"""
    )
    assert read_env_file(path, {"HOST": "away"}) == {
        "HOST": "away",
        "A": "pa${ss}word",
        "B": "x${HOST}",
        "C": "away's",
        "D": "away",
        "E": "there",
        "F": "a'away'",
    }


@pytest.mark.parametrize("text", ["\ufeffA=1\r\nB=2\r\n", "A=1\nB=2"])
def test_how_windows_writes_it_does_not_matter(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(text.encode())
    assert read_env_file(path, {}) == {"A": "1", "B": "2"}


def test_a_project_without_one_has_the_shells_variables(tmp_path: Path) -> None:
    shell = {"AIRFLOW_VAR_A": "1", "AIRFLOW_CONN_B": "2", "AIRFLOW__CORE__X": "3", "HOME": "4"}
    wanted = {"AIRFLOW_CONN_B": "2", "AIRFLOW_VAR_A": "1"}
    assert project_variables(tmp_path / ".env", shell) == wanted


def test_the_shell_wins(file: Path) -> None:
    found = project_variables(file, {"AIRFLOW_VAR_CURRENCY": "USD", "GREETING": "hi"})
    assert (found["AIRFLOW_VAR_CURRENCY"], found["GREETING"]) == ("USD", "hi")


def test_what_windsock_sets_itself_has_no_effect_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "AIRFLOW_HOME=/usr/local/airflow\nAIRFLOW_CONFIG=/x\nAIRFLOW__CORE__EXECUTOR=X\nA=1\n"
        "PATH=/mine:$PATH\nHOME=/root\nPYTHONPATH=/lib\nPATH_OF_EXPORTS=/exports\n"
    )
    shell = {"PATH": "/home/me/bin", "HOME": "/home/me"}
    wanted = ["A", "AIRFLOW__CORE__EXECUTOR", "PATH_OF_EXPORTS"]
    assert list(project_variables(path, shell)) == wanted
    assert ignored(path, shell, own={"AIRFLOW__CORE__EXECUTOR"}) == [
        *("AIRFLOW_CONFIG", "AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR", "HOME", "PATH", "PYTHONPATH")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"A=1\nB='secret\n", r":2: this is no line"), (b"A=\xff", "cannot be read")],
)
def test_what_cannot_be_read_is_told_without_its_values(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / ".env"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        project_variables(path, {})
    assert "secret" not in str(caught.value)
