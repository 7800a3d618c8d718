from __future__ import annotations

import os
import selectors
import subprocess
import sys

import pytest

from windsock.runtime.exits import wake_at_exit

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
        wake_at_exit(selector, child.pid)
        assert serve_once(selector, 0) == 0
        assert child.stdin is not None
        child.stdin.close()
        assert serve_once(selector, None) == 1
        assert child.wait() == 0
        assert not selector.get_map()


@pytest.mark.parametrize("missing", [AttributeError("pidfd_open"), OSError("no such process")])
def test_without_such_a_descriptor_nothing_is_watched(
    monkeypatch: pytest.MonkeyPatch, missing: Exception
) -> None:
    def refuse(_pid: int) -> int:
        raise missing

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    with selectors.DefaultSelector() as selector:
        wake_at_exit(selector, os.getpid())
        assert not selector.get_map()
