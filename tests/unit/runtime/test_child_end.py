from __future__ import annotations

import os
import selectors
import subprocess
import sys
from pathlib import Path

import pytest

from windsock.runtime.child_end import notice_the_end_of_tasks, wake_when_it_ends

WAITS = "import sys; sys.stdin.read()"


def serve_once(selector: selectors.BaseSelector, timeout: float | None) -> int:
    """One turn of a loop as Airflow's: returns how many descriptors were ready."""
    events = selector.select(timeout)
    for key, _ in events:
        handler, on_close = key.data
        if not handler(key.fileobj):
            on_close(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr] # never a number here
    return len(events)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
def test_a_selector_wakes_when_the_child_ends_and_the_watch_is_gone() -> None:
    with selectors.DefaultSelector() as selector:
        child = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE)
        wake_when_it_ends(selector, child.pid)
        assert serve_once(selector, 0) == 0
        assert child.stdin is not None
        child.stdin.close()
        assert serve_once(selector, None) == 1
        assert child.wait() == 0
        assert not selector.get_map()


def test_without_such_a_descriptor_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    with selectors.DefaultSelector() as selector:
        wake_when_it_ends(selector, 2**22 + 1)  # More than the pids that Linux has.
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        wake_when_it_ends(selector, os.getpid())
        assert not selector.get_map()


SUPERVISING = """
import selectors, sys, types

supervisor = types.ModuleType("airflow.sdk.execution_time.supervisor")
for name in ("airflow", "airflow.sdk", "airflow.sdk.execution_time", supervisor.__name__):
    sys.modules[name] = supervisor

class ActivitySubprocess:
    def __init__(self, pid):
        self.pid, self.selector = pid, selectors.DefaultSelector()
    def _on_child_started(self, *, ti):
        print("started", ti)

supervisor.ActivitySubprocess = ActivitySubprocess
from windsock.runtime.child_end import notice_the_end_of_tasks
notice_the_end_of_tasks()

import subprocess
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
task = ActivitySubprocess(child.pid)
task._on_child_started(ti="a task")
print("before", len(task.selector.select(0)))
child.stdin.close()
[(key, _)] = task.selector.select(None)
print("after", key.data[0](key.fileobj), child.wait())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
def test_what_supervises_a_task_wakes_when_the_task_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISING], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == ["started a task", "before 0", "after False 0"]


def test_an_airflow_that_starts_tasks_in_another_way_is_not_changed() -> None:
    notice_the_end_of_tasks()  # There is none here at all.


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
def test_a_selector_that_is_closed_first_leaves_no_descriptor_open() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    selector = selectors.DefaultSelector()
    wake_when_it_ends(selector, os.getpid())
    selector.close()
    del selector
    assert set(Path("/proc/self/fd").iterdir()) == before
