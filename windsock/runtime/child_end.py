"""Notice at once that a child process has ended.

Airflow takes a parser's result once the parser's sockets are closed *and* the process has ended.
The sockets close first. Airflow looks in between, finds a process that still lives, and looks again
up to a second later (one save in ten, measured on two cores). What supervises a task waits in the
same way: each task would occupy its slot of the executor, or its pod, a second longer than it runs.
"""

from __future__ import annotations

import contextlib
import os
import selectors
from multiprocessing.connection import Connection
from typing import Any


def wake_when_it_ends(selector: selectors.BaseSelector, pid: int) -> None:
    """Let a selector return when a process ends.

    Where the system has no descriptor for that (macOS, Linux before 5.3), Airflow looks by its
    clock.

    Args:
        selector: Airflow serves it: the data of a key are a handler, which returns whether to go
            on, and a function that is called when it does not.
        pid: A child that has not been waited for.
    """
    try:
        # It closes its descriptor when it is deleted: the selector may be closed before the process
        # ends.
        watched = Connection(os.pidfd_open(pid), writable=False)
    except (AttributeError, OSError):
        return

    def forget(watched: Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(watched)

    selector.register(watched, selectors.EVENT_READ, (lambda _: False, forget))


def notice_the_end_of_tasks() -> None:
    """Let Airflow notice the end of each task at once, in this process and in its forks.

    An Airflow that starts tasks in another way notices it by its clock.
    """
    try:
        from airflow.sdk.execution_time.supervisor import (  # noqa: PLC0415 - only Airflow has it
            ActivitySubprocess,
        )

        started = ActivitySubprocess._on_child_started  # noqa: SLF001 - the one moment: it is there
    except (ImportError, AttributeError):
        return

    def on_child_started(supervisor: Any, *arguments: Any, **options: Any) -> None:
        wake_when_it_ends(supervisor.selector, supervisor.pid)
        started(supervisor, *arguments, **options)

    ActivitySubprocess._on_child_started = on_child_started  # noqa: SLF001 - as above
