from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest

from windsock.local.system_user import let_pass, let_read

if TYPE_CHECKING:
    from pathlib import Path

SOMEBODY = pwd.struct_passwd(("somebody-else", "x", 54321, 54321, "", "/", "/bin/false"))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only its owner may enter, below folders that everybody may."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(_mode(folder) | stat.S_IXOTH)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


def test_only_folders_that_stood_in_the_way_are_opened_and_only_for_passing(closed: Path) -> None:
    open_already = closed / "open"
    open_already.mkdir()
    open_already.chmod(0o755)
    data = open_already / "data"
    data.mkdir(mode=0o700)
    notes = let_pass(SOMEBODY, [data])
    assert _mode(closed) == 0o701
    assert _mode(open_already) == 0o755
    assert _mode(data) == 0o700
    assert len(notes) == 1
    assert f"{closed} (chmod o+x)" in notes[0]
    assert let_pass(SOMEBODY, [data]) == []


def test_a_folder_of_the_user_itself_is_judged_by_its_owners_rights(closed: Path) -> None:
    us = pwd.getpwuid(os.getuid())
    assert let_pass(us, [closed / "data"]) == []
    assert _mode(closed) == 0o700


def test_an_install_that_nobody_else_may_read_is_opened_for_reading(closed: Path) -> None:
    (closed / "bin").mkdir(mode=0o700)
    program, text = closed / "bin" / "program", closed / "text"
    program.write_text("")
    program.chmod(0o700)
    text.write_text("")
    text.chmod(0o600)
    notes = let_read(SOMEBODY, closed)
    assert (_mode(closed / "bin"), _mode(program), _mode(text)) == (0o705, 0o705, 0o604)
    assert len(notes) == 1
    assert let_read(SOMEBODY, closed) == []
