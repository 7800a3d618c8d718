"""Describe the supervised programs in the supervisor's configuration and in their own files.

The supervisor's configuration has its own `%` expansion, its own comments and quotes, and its
environment syntax cannot hold a value with both kinds of quotes. So nothing of the user's is ever
written into it: it has relative paths that we choose, and each program's command and
environment lie in a 0600 JSON file that `launch.py` reads. The file's name has a digest, so the
configuration of a program changes exactly when its description does.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.local.remote import USER
from windsock.local.variables import WINDSOCKS_OWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

RUN = "run"
"""Below the state folder: everything the supervisor reads, and its socket."""

LOGS = "logs"
"""Below the state folder: one log for each program, and the supervisor's own."""

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 2

NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Program:
    """One long-running process, and how to run and stop it.

    Attributes:
        name: Lower-case letters, digits and hyphens.
        command: The program, as an absolute path, and its arguments.
        environment: Its own variables; they win over what it inherits, and a change of them
            restarts it.
        folder: Its working folder.
        user: The system user to run as; None means ours.
        stop_signal: The name of the signal that ends it cleanly, for example `TERM`. The whole
            process group gets it.
        stop_seconds: After these its process group is killed.
        restart: Whether the program is started again when it ends.
        start_seconds: A program that has lived as long counts as running.
        start_retries: How often a program that ended sooner is started again; each pause is a
            second longer.
        stage: Programs of a higher stage are stopped first, those of one stage together.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 5
    restart: bool = True
    start_seconds: int = 1
    start_retries: int = 3
    stage: int = 1

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigurationError(f"a program cannot be named {self.name!r}")

    def describe(self, inherited: Mapping[str, str]) -> str:
        """What `launch.py` reads, as JSON; plain ASCII, whatever the names."""
        description = {
            "command": self.command,
            "environment": dict(self.environment),
            "inherited": dict(inherited),
            "folder": str(self.folder),
            "user": self.user,
        }
        return json.dumps(description, sort_keys=True, indent=1) + "\n"

    @property
    def description_file(self) -> str:
        """Where its description lies, relative to the state folder.

        What it inherits does not count: a second `up` from another terminal restarts nothing,
        unless the project's variables, which are the program's own, differ there.
        """
        digest = hashlib.sha256(self.describe({}).encode()).hexdigest()[:16]
        return f"{RUN}/programs/{self.name}-{digest}.json"


def configuration(programs: Iterable[Program], *, socket: str, password: str, umask: int) -> str:
    """The text of supervisord.conf. All paths in it are relative to the state folder.

    Args:
        programs: What to supervise. None of them starts by itself.
        socket: The path of the supervisor's socket.
        password: The socket asks for it, and its permissions protect it, too.
        umask: For the programs.
    """
    parser = configparser.RawConfigParser()
    parser["unix_http_server"] = {
        "file": _escaped(socket),
        "chmod": "0600",
        "username": USER,
        "password": _escaped(password),
    }
    parser["supervisord"] = {
        "logfile": f"{LOGS}/supervisor.log",
        "logfile_maxbytes": str(LOG_BYTES),
        "logfile_backups": "1",
        "pidfile": f"{RUN}/supervisor.pid",
        "childlogdir": LOGS,
        "nocleanup": "true",
        "umask": f"{umask:03o}",
    }
    parser["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for program in programs:
        parser[f"program:{program.name}"] = _section(program)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def _section(program: Program) -> dict[str, str]:
    return {
        "command": f"{RUN}/python -I -S {RUN}/launch.py {program.description_file}",
        "autostart": "false",
        "autorestart": str(program.restart).lower(),
        "startsecs": str(program.start_seconds),
        "startretries": str(program.start_retries),
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "stopasgroup": "true",
        "killasgroup": "true",
        "priority": str(program.stage),
        "redirect_stderr": "true",
        "stdout_logfile": f"{LOGS}/{program.name}.log",
        "stdout_logfile_maxbytes": str(LOG_BYTES),
        "stdout_logfile_backups": str(LOG_BACKUPS),
    }


def _escaped(value: str) -> str:
    """The supervisor expands `%(name)s` in every value."""
    return value.replace("%", "%%")


def changed_variables(state: Path, programs: Iterable[Program]) -> list[str]:
    """The names of the variables that programs would get, and that those which run do not have.

    Args:
        state: The state folder, with the descriptions of what runs.
        programs: As they are wanted.

    Returns:
        Names, in order. It is empty if nothing differs, or also what windsock sets.
    """
    names: set[str] = set()
    for program in programs:
        if (state / program.description_file).exists():
            continue
        found = sorted((state / RUN / "programs").glob(f"{program.name}-{'?' * 16}.json"))
        wanted = json.loads(program.describe({}))
        try:
            [running] = [json.loads(path.read_text(encoding="utf-8")) for path in found]
            before, after = running.pop("environment"), wanted.pop("environment")
            running["inherited"] = {}
        except (OSError, ValueError, KeyError):
            return []
        if running != wanted:
            return []
        names |= {name for name in {*before, *after} if before.get(name) != after.get(name)}
    ours = ("AIRFLOW__", *WINDSOCKS_OWN)
    return [] if any(name.startswith(ours) for name in names) else sorted(names)
