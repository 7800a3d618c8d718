from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.errors import EnvironmentFailure
from windsock.model import ENVIRONMENT_FILE, Environment

if TYPE_CHECKING:
    from pathlib import Path

words = st.text(st.characters(exclude_categories=["Cs"]))


def _environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "target": "local",
        "url": "http://127.0.0.1:8080",
        "user": "admin",
        "password_file": "/nowhere",
        "control_socket": "/nowhere/control.sock",
        "dags_folder": "/dags",
        "airflow": "3.3.2",
    }
    return Environment(**{**values, **changes})


@given(folder=words, target=words)
def test_an_environment_is_read_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, folder: str, target: str
) -> None:
    place = tmp_path_factory.mktemp("state")
    saved = _environment(dags_folder=folder, target=target, further={target: folder})
    saved.save(place)
    assert Environment.load(place) == saved
    assert [path.name for path in place.iterdir()] == [ENVIRONMENT_FILE]


def test_what_a_newer_windsock_has_added_is_left_out(tmp_path: Path) -> None:
    saved = _environment()
    saved.save(tmp_path)
    file = tmp_path / ENVIRONMENT_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "of_tomorrow": 1}))
    assert Environment.load(tmp_path) == saved


def test_no_environment_says_how_to_bring_one_up(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="no environment is up here") as caught:
        Environment.load(tmp_path)
    assert "invoke up" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"target": "local"}', "\x00"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_text(text)
    with pytest.raises(EnvironmentFailure, match="cannot be used") as caught:
        Environment.load(tmp_path)
    assert "invoke down" in caught.value.hint


def test_a_file_that_is_no_text_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(EnvironmentFailure, match="cannot be used"):
        Environment.load(tmp_path)


def test_a_failed_save_leaves_the_old_one_whole(tmp_path: Path) -> None:
    _environment().save(tmp_path)
    longest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, longest[1]))  # Bytes: a write ends halfway.
    try:
        with pytest.raises(EnvironmentFailure, match="cannot write"):
            _environment(target="other").save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, longest)
    assert Environment.load(tmp_path) == _environment()
    assert [path.name for path in tmp_path.iterdir()] == [ENVIRONMENT_FILE]


def test_the_password_is_read_when_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    environment = _environment(password_file=str(file))
    with pytest.raises(EnvironmentFailure, match="password file cannot be read"):
        environment.password()
    file.write_text("hush\n")
    assert environment.password() == "hush"
    environment.save(tmp_path)
    assert "hush" not in json.dumps((tmp_path / ENVIRONMENT_FILE).read_text())
