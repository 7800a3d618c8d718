from __future__ import annotations

import socket
import stat
import tempfile
from pathlib import Path

import pytest

from windsock.errors import EnvironmentFailure
from windsock.local.sockets import (
    LONGEST_FOLDER,
    LONGEST_NAME,
    forget_sockets,
    socket_path,
)

DEEP = "d" * 90


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


def test_a_short_path_stays_in_its_folder() -> None:
    folder = Path("/" + "f" * (LONGEST_FOLDER - 1))
    assert socket_path(folder, "a.sock") == folder / "a.sock"


def test_all_sockets_of_a_long_folder_lie_in_one_short_private_folder(
    tmp_path: Path, short: Path
) -> None:
    deep = tmp_path / DEEP / ("é" * 30)
    path = socket_path(deep, "a.sock", make=True, temporary=short)
    assert path.parent.parent == short
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert socket_path(deep, "a.sock", temporary=short) == path
    assert socket_path(deep, "b" * LONGEST_NAME, temporary=short).parent == path.parent
    assert socket_path(deep.with_name("other"), "a.sock", temporary=short) != path
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    other = path.with_name("something else")
    other.write_text("")
    forget_sockets(path)
    assert list(path.parent.iterdir()) == [other]
    other.unlink()
    forget_sockets(path)
    forget_sockets(path)
    assert not path.parent.exists()


def test_asking_for_a_path_makes_nothing(tmp_path: Path, short: Path) -> None:
    path = socket_path(tmp_path / DEEP, "a.sock", temporary=short)
    assert not path.parent.exists()


def test_forgetting_leaves_a_folder_of_the_project() -> None:
    with tempfile.TemporaryDirectory() as place:
        path = socket_path(Path(place) / "run", "a.sock", make=True)
        forget_sockets(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent == Path(place).resolve() / "run"


def test_a_name_that_might_not_fit_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nnn"):
        socket_path(tmp_path, "n" * (LONGEST_NAME + 1))


@pytest.mark.parametrize("kind", ["open", "file", "link"])
def test_a_short_folder_that_is_not_ours_alone_is_refused(
    tmp_path: Path, short: Path, kind: str
) -> None:
    path = socket_path(tmp_path / DEEP, "a.sock", temporary=short)
    place = path.parent
    if kind == "open":
        place.mkdir()
        place.chmod(0o755)
    elif kind == "file":
        place.write_text("")
    else:
        (short / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(short / "elsewhere")
    for make in (False, True):
        with pytest.raises(EnvironmentFailure, match="is not a private folder"):
            socket_path(tmp_path / DEEP, "a.sock", make=make, temporary=short)
