"""Become a supervised program: read its description, drop to its user, replace this process.

The supervisor runs this file by its path, so it imports the standard library only. A description
is a 0600 JSON file: any character fits into it, which the supervisor's configuration does not
offer, and no secret stands on a command line or in a configuration.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def become(description: dict[str, Any]) -> None:
    """Replace this process by the program. Returns never, or raises OSError."""
    environment = {**description["inherited"], **description["environment"]}
    if description["user"]:
        _switch_to(description["user"])
    os.chdir(description["folder"])
    # A shell ignores SIGINT in what it runs in the background, and nohup SIGHUP; both would be
    # inherited, and SIGINT is how some programs are stopped.
    for name in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    command = description["command"]
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is wanted


def _switch_to(name: str) -> None:
    import pwd  # noqa: PLC0415 - needed as root only

    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def main(path: str) -> int:
    """Run the program that the file at `path` describes; 127 if it cannot be run."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            description = json.load(file)
        become(description)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"windsock cannot start this program: {error}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
