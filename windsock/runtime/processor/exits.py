"""Wake a selector at the moment a child process ends.

Airflow's dag-processor takes a parser's result once its sockets are closed *and* it can be reaped.
The sockets close first; a look in between finds a process that still lives, and the next look is up
to a second later (one save in ten, measured with 3.3.2 on two cores). What supervises a task waits
in the same way, for a whole interval between heartbeats: every other task kept its executor's slot,
or its pod, a second longer than it ran, and five seconds with Airflow's own interval.
"""

from __future__ import annotations

import contextlib
import os
import selectors
from typing import Any


class _Exit:
    """A file descriptor that is readable once a process has ended (Linux 5.3 and later)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close
    """A selector that is closed before the end was seen only lets go of it."""


def wake_at_exit(selector: selectors.BaseSelector, pid: int) -> None:
    """Let a selector return when a process ends; nothing else happens then.

    Where the system has no such descriptor (macOS), nothing is watched: the loop looks again by its
    clock.

    Args:
        selector: Served as Airflow does: the data of a key are a handler, whose falsehood ends the
            watch, and what is called then.
        pid: A child that has not been waited for.
    """
    try:
        watched = _Exit(os.pidfd_open(pid))
    except (AttributeError, OSError):
        return

    def forget(watched: _Exit) -> None:
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(watched)

    selector.register(watched, selectors.EVENT_READ, (lambda _: False, forget))


def end_with_the_task() -> None:
    """Let what supervises a task in this process, or in a fork of it, notice the end at once.

    Where this Airflow starts tasks in another way, it notices it by its clock as before.
    """
    try:
        from airflow.sdk.execution_time.supervisor import (  # noqa: PLC0415 - only Airflow has it
            ActivitySubprocess,
        )

        started = ActivitySubprocess._on_child_started  # noqa: SLF001 - the one moment: it is there
    except (ImportError, AttributeError):
        return

    def on_child_started(supervisor: Any, *arguments: Any, **options: Any) -> None:
        wake_at_exit(supervisor.selector, supervisor.pid)
        started(supervisor, *arguments, **options)

    ActivitySubprocess._on_child_started = on_child_started  # noqa: SLF001 - as above
