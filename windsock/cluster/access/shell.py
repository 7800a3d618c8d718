"""A command in a component's pod, for a person: `kubectl exec`, with errors that help."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO, TYPE_CHECKING

from windsock.cluster import kubectl
from windsock.cluster.api.workloads import ready_pod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster

READ_BYTES = 64 * 1024


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
    child = subprocess.Popen(
        kubectl.command(
            cluster, "exec", "--quiet", *options, f"--container={container}", name, "--", *command
        ),
        env=kubectl.environment(cluster),
        stdin=None if with_input else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with child:
        try:
            last = _pass_on(child.stderr)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    if code < 0:  # for example SIGPIPE: nobody reads our output any more
        return 128 - code
    own = [line for line in last if not kubectl.is_log_line(line)]
    if code and not (own and own[-1].startswith(kubectl.ENDED)):
        words = "".join(own).strip().removeprefix("error: ")
        raise kubectl.failure(cluster, words, doing=f"run a command in pod {name}")
    _write("".join(line for line in own if not line.startswith(kubectl.ENDED)))
    return code


def _pass_on(errors: IO[bytes] | None) -> list[str]:
    """Copy a stream to our stderr; returns its last lines, if kubectl may have written them."""
    if errors is None:
        raise AssertionError("the pipe was asked for")
    last: list[str] = []
    while piece := os.read(errors.fileno(), READ_BYTES):
        for line in piece.decode("utf-8", "surrogateescape").splitlines(keepends=True):
            if kubectl.is_own_line(line):
                last.append(line)
            else:
                _write("".join([*last, line]))
                last = []
    return last


def _write(text: str) -> None:
    sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stderr.flush()
