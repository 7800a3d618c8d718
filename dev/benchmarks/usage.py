"""What an environment costs while nothing happens: memory and CPU time by component."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.local.processes import Supervisor

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One component.

    Attributes:
        processes: How many.
        rss: Resident memory in MiB: pages that processes share count in each of them.
        pss: The same with shared pages divided among their users; None where unreadable.
        cpu: Of one core, in percent.
    """

    processes: int
    rss: float
    pss: float | None
    cpu: float


def trees(supervisor: Supervisor) -> dict[str, list[psutil.Process]]:
    """Component → its process and all below it; the supervisor itself is one, too."""
    found: dict[str, list[psutil.Process]] = {}
    for name, state in supervisor.states().items():
        with suppress(psutil.Error):
            root = psutil.Process(state.pid)
            found[name] = [root, *root.children(recursive=True)]
            if (parent := root.parent()) is not None:
                found["supervisor"] = [parent]
    return found


def idle(
    supervisor: Supervisor, *, seconds: float, pause: Callable[[float], None] = time.sleep
) -> dict[str, Usage]:
    """Look at every component twice, `seconds` apart."""
    started, before = time.monotonic(), _cpu_seconds(trees(supervisor))
    pause(seconds)
    components = trees(supervisor)
    after, passed = _cpu_seconds(components), time.monotonic() - started
    return {
        name: _usage(processes, cpu=100 * (after[name] - before.get(name, 0.0)) / passed)
        for name, processes in components.items()
    }


def _cpu_seconds(components: Mapping[str, list[psutil.Process]]) -> dict[str, float]:
    """CPU time of a tree; a child's goes to its parent when it ends, so nothing is lost."""
    totals: dict[str, float] = {}
    for name, processes in components.items():
        parts = 2 if name == "supervisor" else 4  # Its children are other components.
        total = 0.0
        for process in processes:
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:parts])
        totals[name] = total
    return totals


def _usage(processes: list[psutil.Process], *, cpu: float) -> Usage:
    rss, pss, readable = 0, 0, True
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            rss += process.memory_info().rss
            try:
                pss += process.memory_full_info().pss
            except (psutil.AccessDenied, AttributeError):  # Another user's, or not Linux.
                readable = False
    return Usage(
        processes=len(processes),
        rss=rss / MEBIBYTE,
        pss=pss / MEBIBYTE if readable else None,
        cpu=cpu,
    )
