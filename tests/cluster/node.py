"""The processes of pods, seen and ended from their node, where that is this machine.

A signal from here needs no way into the pod: it arrives in the very moment that is meant, also when
the way is what is broken. It ends what nobody in the pod can end: the first process of a container,
which no signal from inside kills.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cluster.installer import docker

Object = dict[str, Any]

AGENT = b"module.main()"
"""In the command line of an agent, and of nothing else in a pod."""


def first_process(pod: Object) -> int:
    """The process, as this machine numbers it, that is number 1 in a pod's only container."""
    [status] = pod["status"]["containerStatuses"]
    container = str(status["containerID"]).partition("://")[2]
    return int(docker("inspect", "--format", "{{.State.Pid}}", container))


def kill_container(pod: Object) -> None:
    """End a pod's only container, and all that runs in it, as the kernel does without memory."""
    os.kill(first_process(pod), signal.SIGKILL)


def agents_in(pod: Object) -> dict[int, int]:
    """The agents that run in a pod: this machine's number of each, and the pod's own."""
    space = _space(first_process(pod))
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _space(int(folder.name)) == space and AGENT in (folder / "cmdline").read_bytes():
                found[int(folder.name)] = _inner(folder)
    return found


def is_frozen(process: int) -> bool:
    """Whether a process has stopped."""
    return _line(Path("/proc") / str(process), "State:")[0] == "T"


def runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        return _line(Path("/proc") / str(process), "State:")[0] not in "ZX"
    except OSError:
        return False


def _space(process: int) -> str:
    return str(Path(f"/proc/{process}/ns/pid").readlink())


def _inner(folder: Path) -> int:
    return int(_line(folder, "NSpid:")[-1])


def _line(folder: Path, name: str) -> list[str]:
    lines = (folder / "status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(name)]
    return line.split()[1:]
