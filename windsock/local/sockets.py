"""Where unix sockets lie: in the state folder, or in a short private folder if its path is long.

A socket's path may have 107 bytes on Linux and 103 on macOS.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder

PREFIX = "windsock-"
LONGEST_FOLDER = 70
LONGEST_NAME = 24
"""Bytes; with the nine that a server may append while it makes a socket, this always fits."""


def socket_path(
    folder: Path, name: str, *, make: bool = False, temporary: Path | None = None
) -> Path:
    """The path for a socket that belongs to `folder`; the same at every call.

    All sockets of a folder lie together.

    Args:
        folder: The folder that it belongs to.
        name: The socket's file name.
        make: Whether to make the place that the socket lies in, for its owner only.
        temporary: Where short folders lie if `folder` is too long; None means /tmp, which, unlike
            $TMPDIR, is the same for every shell of a user.

    Raises:
        EnvironmentFailure: The place cannot be made, or somebody else made it first.
    """
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(name)
    whole = folder.resolve()
    if len(os.fsencode(whole)) <= LONGEST_FOLDER:
        if make:
            private_folder(whole)
        return whole / name
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]
    short = (temporary or _temporary()) / f"{PREFIX}{os.getuid()}-{digest}"
    if make:
        _make(short)
    _check_ours(short)
    return short / name


def forget_sockets(path: Path) -> None:
    """Remove a short folder with the sockets in it, when nobody listens on any of them.

    A folder of the project itself is left alone.
    """
    folder = path.parent
    if not folder.name.startswith(f"{PREFIX}{os.getuid()}-"):
        return
    with suppress(OSError):  # it is gone, or something that is no socket is in it
        for item in folder.iterdir():
            if item.is_socket():
                item.unlink()
        folder.rmdir()


def _temporary() -> Path:
    common = Path("/tmp")  # noqa: S108 - what is made in it is checked to be ours alone
    return common if common.is_dir() else Path(tempfile.gettempdir())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        pass  # no folder: the check says so
    except OSError as error:
        raise cannot(f"make the folder {folder}", error) from error


def _check_ours(folder: Path) -> None:
    """Be sure that a folder, in a place where others can write, is ours alone."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.getuid():
        raise EnvironmentFailure(
            f"{folder} is not a private folder of this user",
            "Remove it, or give the project a shorter path.",
        )
