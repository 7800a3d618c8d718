"""The system user that PostgreSQL runs as when windsock is run by root, as in a container.

PostgreSQL refuses to run as root. Its files may lie below folders that only root can enter, such
as /root: those, and nothing else, are opened for passing through (`o+x`), and a note names them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.files import cannot
from windsock.local.commands import run

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "pgserver"
"""The name that the PostgreSQL wheel's own wrapper uses, so that both agree on a machine."""


def needed() -> bool:
    """Whether PostgreSQL must run as somebody else than we."""
    return os.geteuid() == 0


def ensure_user() -> tuple[pwd.struct_passwd, list[str]]:
    """Find or make the system user.

    Returns:
        The user, and what had to be done, for a person to read.

    Raises:
        EnvironmentFailure: It does not exist and cannot be made.
    """
    try:
        return pwd.getpwnam(NAME), []
    except KeyError:
        pass
    tool = shutil.which("useradd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if tool is None:
        raise EnvironmentFailure(
            f"PostgreSQL does not run as root, and there is no useradd to make the user {NAME}",
            f"Make a system user named {NAME}, or run windsock as a normal user.",
        )
    made = run(
        [tool, "--system", "--no-create-home", "--shell", "/bin/false", NAME],
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        folder=Path("/"),
        seconds=60,
    )
    try:
        return pwd.getpwnam(NAME), [f"made the system user {NAME} (PostgreSQL refuses to be root)"]
    except KeyError:
        raise EnvironmentFailure(
            f"the system user {NAME} cannot be made", made.last_lines(5)
        ) from None


def let_pass(user: pwd.struct_passwd, paths: Iterable[Path]) -> list[str]:
    """Open the parents of `paths` for passing through, where `user` could not pass before.

    Args:
        user: Who has to get to the paths.
        paths: Folders or files that exist.

    Returns:
        What was done, for a person to read.
    """
    notes: list[str] = []
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    for path in paths:
        for folder in reversed(path.resolve().parents):
            if _may(folder, user.pw_uid, groups, stat.S_IXOTH):
                continue
            try:
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
            except OSError as error:
                raise cannot(f"let the user {user.pw_name} pass through {folder}", error) from error
            notes.append(f"let {user.pw_name} pass through {folder} (chmod o+x)")
    return notes


def let_read(user: pwd.struct_passwd, top: Path) -> list[str]:
    """Let `user` read all of a folder, where an install by a careful umask forbade it.

    Returns:
        What was done, for a person to read.
    """
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    changed = 0
    for folder, _, names in os.walk(top):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            mode = path.stat().st_mode
            needed = stat.S_IROTH
            if path.is_dir() or mode & stat.S_IXUSR:
                needed |= stat.S_IXOTH
            if not _may(path, user.pw_uid, groups, needed):
                path.chmod(stat.S_IMODE(mode) | needed)
                changed += 1
    return [f"let everybody read {top} ({changed} files)"] if changed else []


def _may(path: Path, uid: int, groups: set[int], wanted: int) -> bool:
    """Whether a user has the rights `wanted`, given as the bits for others."""
    found = path.stat()
    if found.st_uid == uid:
        wanted <<= 6
    elif found.st_gid in groups:
        wanted <<= 3
    return found.st_mode & wanted == wanted
