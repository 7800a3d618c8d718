"""A command in a component's pod, for a person: `kubectl exec`, with errors that help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

from windsock.cluster import kubectl
from windsock.cluster.api import failures
from windsock.cluster.api.workloads import ready_pod
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.errors import WindsockError

READ_BYTES = 64 * 1024

_ENDED = "command terminated with exit code "
"""How kubectl's last line begins after a command that ran and failed."""
_STARTS = (
    _ENDED,
    "error: ",
    "Error from server",
    "Unable to connect",
    "The connection to the server ",
)
_LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.go:\d+\] ")
"""A line of kubectl for those who look for a fault in kubectl."""
_REFUSED = {"(Forbidden)": HTTPStatus.FORBIDDEN, "(Unauthorized)": HTTPStatus.UNAUTHORIZED}


def run(cluster: Cluster, component: str, command: Sequence[str], *, interactive: bool) -> int:
    """Run a command in a component's pod, on our own stdin, stdout and stderr.

    Args:
        cluster: With the namespace.
        component: For example `scheduler`.
        command: With its arguments.
        interactive: Give it a terminal; stdin and stdout must be one then.

    Returns:
        Its exit code.

    Raises:
        ConfigurationError: There is no such program in the image, or no kubectl on this machine.
        EnvironmentFailure: No pod is ready, the cluster refuses, or the connection broke.
    """
    pod = ready_pod(cluster, component)
    name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]
    with_input = interactive or not os.isatty(0)
    options = ["--stdin"] * with_input + ["--tty"] * interactive
    child = kubectl.start(
        cluster, "exec", "--quiet", *options, f"--container={container}", name, "--", *command,
        stdin=None if with_input else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
    )  # fmt: skip
    with child:
        try:
            last = _pass_on(child.stderr)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code < 0:  # for example SIGPIPE: nobody reads our output any more
        return 128 - code
    own = [line for line in last if not _LOG_LINE.match(line)]
    if code and not (own and own[-1].startswith(_ENDED)):
        raise _failure(cluster, "".join(own).strip().removeprefix("error: "), pod=name)
    _write("".join(line for line in own if not line.startswith(_ENDED)))
    return code


def _pass_on(errors: IO[bytes] | None) -> list[str]:
    """Copy a stream to our stderr; returns its last lines, if kubectl may have written them."""
    if errors is None:
        raise AssertionError("the pipe was asked for")
    last: list[str] = []
    while piece := os.read(errors.fileno(), READ_BYTES):
        for line in piece.decode("utf-8", "surrogateescape").splitlines(keepends=True):
            if line.startswith(_STARTS) or _LOG_LINE.match(line):
                last.append(line)
            else:
                _write("".join([*last, line]))
                last = []
    return last


def _write(text: str) -> None:
    sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stderr.flush()


def _failure(cluster: Cluster, words: str, *, pod: str) -> WindsockError:
    """The error for kubectl's last lines."""
    doing = f"run a command in pod {pod}"
    for word, code in _REFUSED.items():
        if word in words:
            return failures.refusal(
                code, words, doing=doing, server=cluster.server, context=cluster.context
            )
    if "executable file not found" in words or "no such file or directory" in words:
        return ConfigurationError(f"the pod cannot run it: {words}", "Is the program in the image?")
    return EnvironmentFailure(
        f"kubectl could not {doing}: {words or 'it gave no reason'}",
        "Was the pod replaced? `invoke status` shows it; try again.",
    )
