"""What a parse reads beside the DAG folder: the reasons to parse a file again by the clock.

A DAG that reads only the folder comes out the same until a save changes what it read. One that
reads the clock, the network or a file elsewhere may not.

Recognized are the audit events of Python, and the names in the DAG folder's own code. What compiled
code does by itself, such as the driver of a database, is not seen; nor is a library that reads the
clock. A name counts wherever it stands, be it in a task, which no parse runs: such a file is parsed
in vain now and then, and that costs less than one that is not parsed.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOCK_AND_CHANCE = frozenset(
    {
        *("now", "utcnow", "today", "time", "time_ns", "localtime", "gmtime", "strftime"),
        *("yesterday", "tomorrow", "ctime"),
        *("random", "secrets", "urandom", "uuid"),
    }
)
"""Names of functions and modules. `import time` is one use of the name, `time.time()` another."""

EVENTS = {
    "socket.connect": "the network",
    "socket.getaddrinfo": "the network",
    "socket.gethostbyname": "the network",
    "sqlite3.connect": "a database",
    "subprocess.Popen": "another program",
    "os.system": "another program",
    "os.exec": "another program",
    "os.posix_spawn": "another program",
}
"""Audit event → what it reads."""

METADATA = re.compile(r"\.(egg|dist)-info(/|$)")
"""What is read in the search for installed distributions, also of one installed from its source."""

SYSTEM = ("/dev/", "/proc/", "/sys/", "/usr/", "/lib/", "/lib64/")
"""Folders of the system, which libraries read by themselves."""

OF_AIRFLOW = ("airflow.cfg", "webserver_config.py", "logs/")
"""What Airflow itself reads below AIRFLOW_HOME."""


class Outside:
    """Tells what is outside the DAG folder from what is part of this program.

    Args:
        bundle: The folder of the snapshot, with a `/` at its end.
        note: Takes each reason once.
    """

    def __init__(self, bundle: str, note: Callable[[str], None]) -> None:
        self._bundle = bundle
        self._note = note
        self._noted: set[str] = set()
        home = os.environ.get("AIRFLOW_HOME", "").rstrip("/")
        of_airflow = (f"{home}/{name}" for name in OF_AIRFLOW)
        self._ours = (bundle, *SYSTEM, *installed_folders(), *of_airflow)
        self._searched = frozenset(sys.path)  # For distributions, by `importlib.metadata`.

    def _take(self, reason: str) -> None:
        if reason not in self._noted:
            self._noted.add(reason)
            self._note(reason)

    def take_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "exec":
            self._take_code(arguments[0])
        elif event in EVENTS:
            self._take(EVENTS[event])

    def _take_code(self, code: Any) -> None:
        """Take code that is about to run; of interest is the DAG folder's own."""
        if getattr(code, "co_filename", "").startswith(self._bundle):
            for name in CLOCK_AND_CHANCE.intersection(_names(code)):
                self._take(f"the name {name!r}")

    def take_path(self, path: str) -> None:
        """Take an absolute path that is read, or looked for."""
        searched = path.rstrip("/") in self._searched or METADATA.search(path)
        if path.startswith("/") and not path.startswith(self._ours) and not searched:
            self._take(path)


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """The folders of Python, its packages and this program; called once before the first fork.

    What else is on `sys.path` may be edited: a package that is installed from its source, say.
    """
    prefixes = {sys.prefix, sys.base_prefix, sys.pycache_prefix or ""}
    program = str(Path(__file__).parents[2])
    named = {*sysconfig.get_paths().values(), *prefixes, program} - {"", "/"}
    real = {str(Path(folder).resolve()) for folder in named}
    return tuple(f"{folder.rstrip('/')}/" for folder in sorted(named | real))


def _names(code: Any) -> Iterator[str]:
    """All names that compiled code uses, the functions inside it included."""
    waiting = [code]
    while waiting:
        each = waiting.pop()
        yield from each.co_names
        waiting += [constant for constant in each.co_consts if hasattr(constant, "co_names")]
