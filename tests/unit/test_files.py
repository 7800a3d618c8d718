from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_folder_is_private_and_an_existing_one_keeps_its_mode(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o711)
    private_folder(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o711


def test_a_folder_below_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot make the folder"):
        private_folder(tmp_path / "file" / "folder")


def test_a_written_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "ünï"
    write_whole(path, "first ✓")
    write_whole(path, "second ✓")
    assert path.read_text(encoding="utf-8") == "second ✓"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "is a folder"
    folder.mkdir()
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        write_whole(folder, "text")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "who owns it"),
        (errno.EROFS, "windsock.state"),
    ],
)
def test_what_the_system_says_comes_with_what_to_do(number: int, advice: str) -> None:
    assert advice in cannot("write x", OSError(number, "whatever")).hint
