"""End what a killed component left behind.

The scheduler's workers are its forks, and so share its connection to the database. A `kill -9` of
the scheduler leaves them waiting for work, for ever, and PostgreSQL does not see that the scheduler
has gone: a transaction of its last moment stays open and keeps its locks. The next scheduler then
starts no task, as it never gets the lock on the pools (seen).
"""

from __future__ import annotations

import contextlib
import os
import signal

COMPONENTS = ("windsock.runtime.start", "airflow worker -- LocalExecutor")
"""What the command line of a component's fork has in it. A worker writes its title over it, and a
task has another one.

Source of the title: `_get_executor_process_title_prefix` in airflow/executors/local_executor.py.
"""


def end_leftovers() -> None:
    """Kill the processes of our session whose process group has lost its leader.

    Only for a component that supervisord starts: each one leads a group in its session, and so does
    each task. What is left of a task, say a server that it has started, is nobody's leftover. The
    children of a component's forks end with them.
    """
    import psutil  # noqa: PLC0415 - Airflow's, and not needed in a pod

    session = os.getsid(0)
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            group = os.getpgid(process.pid)
            if os.getsid(process.pid) != session or psutil.pid_exists(group):
                continue
            if not any(title in " ".join(process.cmdline()) for title in COMPONENTS):
                continue
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    each.send_signal(signal.SIGKILL)
