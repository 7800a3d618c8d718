"""Processes in a pod: the sync agent on a persistent stream, and a shell for a person."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from windsock.cluster.access.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Channels
from windsock.cluster.api.workloads import newest_ready, selector
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.sync import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.store.agent import Options

LINES_KEPT = 50
READ_BYTES = 64 * 1024
DAG_PROCESSOR = "dag-processor"

PIPER = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
def feed():
    stream = open(0, "rb", 0, closefd=False)
    try:
        while size := int(stream.readline() or 0):
            while size and (piece := stream.read(size)):
                size -= len(piece)
                child.stdin.write(piece)
                child.stdin.flush()
        child.stdin.close()
    except OSError:
        pass
threading.Thread(target=feed, daemon=True).start()
code = child.wait()
sys.stdout.flush()
os._exit(code if code >= 0 else 128 - code)
"""
"""Runs a command on frames from its own stdin: the protocol cannot say that a stdin has ended."""


def ready_pod(cluster: Cluster, component: str) -> Object:
    """The pod of a component that runs and is ready.

    Args:
        cluster: With the namespace.
        component: For example `dag-processor`.

    Raises:
        EnvironmentFailure: There is none just now.
    """
    pods = cluster.items("v1", "Pod", selector=selector(component))
    ready = newest_ready(pods)
    if ready is None:
        state = ", ".join(str(pod["status"].get("phase", "")).lower() for pod in pods) or "none"
        raise EnvironmentFailure(
            f"no pod of {component} is ready in namespace {cluster.namespace} (pods: {state})",
            "`invoke status` shows what it waits for; `invoke up` brings it up.",
        )
    return ready


def open_exec(
    cluster: Cluster, pod: Object, command: Sequence[str], *, stdin: bool, tty: bool
) -> Channels:
    """Start a command in the first container of a pod.

    Raises:
        Refusal: We may not, or the pod is gone.
        Unreachable: The cluster does not answer.
    """
    name = pod["metadata"]["name"]
    query = [("command", part) for part in command]
    query += [
        ("container", pod["spec"]["containers"][0]["name"]),
        ("stdin", str(stdin).lower()),
        ("stdout", "true"),
        ("stderr", str(not tty).lower()),  # a terminal has one stream for both
        ("tty", str(tty).lower()),
    ]
    path = f"{cluster.path('v1', 'Pod', name)}/exec"
    return Channels(cluster.connection.websocket(path, query=query, doing=f"exec into pod {name}"))


class ExecTransport:
    """A command in a pod as a transport of the sync: see `windsock.sync.transport.Transport`.

    Args:
        channels: Of the command.
        name: Of the pod, for the diagnosis.
    """

    def __init__(self, channels: Channels, *, name: str) -> None:
        self._channels = channels
        self._name = name
        self._ending: tuple[int, str] | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._listener = threading.Thread(
            target=self._listen, name="windsock-exec-errors", daemon=True
        )
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the connection is open."""
        return self._channels.open

    def read(self, limit: int) -> bytes:
        """See `Transport`."""
        return self._channels.read(STDOUT, limit)

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        self._channels.write(STDIN, data)

    def close(self) -> None:
        """Close the connection: the agent's input ends with it, and so does the agent."""
        self._channels.close()
        self._listener.join()

    def diagnosis(self) -> str:
        """See `Transport`."""
        lines = list(self._lines)
        if not self._channels.open:
            if self._channels.reason:
                lines.append(f"the connection to pod {self._name} broke: {self._channels.reason}")
            code, words = self._ended()
            if code:
                lines.append(words or f"the agent in pod {self._name} ended, exit code {code}")
        return "\n".join(lines)

    def _ended(self) -> tuple[int, str]:
        if self._ending is None:
            try:
                self._ending = _ending(self._channels)
            except EnvironmentFailure:
                self._ending = (0, "")
        return self._ending

    def _listen(self) -> None:
        rest = b""
        while piece := self._channels.read(STDERR, READ_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            self._lines.extend(line.decode("utf-8", "replace").rstrip()[:1000] for line in lines)
        if rest:
            self._lines.append(rest.decode("utf-8", "replace")[:1000])


def exec_transport(
    cluster: Cluster, options: Options, *, python: str = "python3", component: str = DAG_PROCESSOR
) -> ExecTransport:
    """Start the sync agent in the pod that is ready now, and send it over.

    Args:
        cluster: With the namespace.
        options: How the agent works.
        python: The interpreter in the pod.
        component: Whose pod it is.

    Raises:
        EnvironmentFailure: No pod is ready, or the cluster refuses.
    """
    pod = ready_pod(cluster, component)
    command = bootstrap.command(python, options.as_json())
    channels = open_exec(cluster, pod, command, stdin=True, tty=False)
    transport = ExecTransport(channels, name=pod["metadata"]["name"])
    with contextlib.suppress(OSError):  # what ended at once says why on its error stream
        transport.write(bootstrap.greeting())
    return transport


# --- a command for a person ------------------------------------------------------------------


def run(cluster: Cluster, component: str, command: Sequence[str], *, interactive: bool) -> int:
    """Run a command in a component's pod, on our own stdin, stdout and stderr.

    Args:
        cluster: With the namespace.
        component: For example `dag-processor`.
        command: With its arguments.
        interactive: Give it a terminal; stdin and stdout must be one then.

    Returns:
        Its exit code.

    Raises:
        ConfigurationError: There is no such program in the image.
        EnvironmentFailure: No pod is ready, or the connection broke.
    """
    pod = ready_pod(cluster, component)
    feeding = not interactive and _has_input(0)
    remote = ["python3", "-I", "-S", "-c", PIPER, *command] if feeding else command
    channels = open_exec(cluster, pod, remote, stdin=interactive or feeding, tty=interactive)
    with contextlib.closing(channels):
        if interactive:
            return _interact(channels)
        return _pipe(channels, feeding=feeding)


def _has_input(descriptor: int) -> bool:
    """Whether stdin is something that ends: a file or a pipe, no terminal and no device."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _ending(channels: Channels) -> tuple[int, str]:
    """The exit code of a command that ended, and what the cluster said if it did not start.

    Raises:
        EnvironmentFailure: The connection broke before it ended.
    """
    text = b""
    while piece := channels.read(ERROR, READ_BYTES):
        text += piece
    status = _status(text)
    if status is None:
        raise EnvironmentFailure(
            f"the connection to the pod broke: {channels.reason or 'it was closed'}",
            "Was the pod replaced? `invoke status` shows it; try again.",
        )
    if status.get("status") == "Success":
        return 0, ""
    causes = (status.get("details") or {}).get("causes") or []
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if codes:
        return int(codes[0]), ""
    return 1, str(status.get("message", "it could not be started"))


def _status(text: bytes) -> dict[str, Any] | None:
    """The cluster's last word on a command; None if a cut has left nothing, or half of it."""
    try:
        status = json.loads(text)
    except ValueError:
        return None
    return status if isinstance(status, dict) else None


def _exit_code(channels: Channels) -> int:
    code, words = _ending(channels)
    if words:
        missing = "not found" in words or "no such file" in words
        kind = ConfigurationError if missing else EnvironmentFailure
        raise kind(f"the pod cannot run it: {words}", "Is the program in the image?")
    return code


def _pipe(channels: Channels, *, feeding: bool) -> int:
    copiers = [
        threading.Thread(target=_copy, args=(channels, channel, descriptor), daemon=True)
        for channel, descriptor in ((STDOUT, 1), (STDERR, 2))
    ]
    for copier in copiers:
        copier.start()
    if feeding:
        # It may wait for input that never comes, long after the command has ended.
        threading.Thread(target=_feed, args=(channels,), daemon=True).start()
    for copier in copiers:
        copier.join()
    return _exit_code(channels)


def _copy(channels: Channels, channel: int, descriptor: int) -> None:
    while piece := channels.read(channel, READ_BYTES):
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:  # whoever reads our output has left: so do we
            threading.Thread(target=channels.close, daemon=True).start()
            return


def _feed(channels: Channels) -> None:
    with contextlib.suppress(OSError):
        while piece := os.read(0, READ_BYTES):
            channels.write(STDIN, b"%d\n%s" % (len(piece), piece))
        channels.write(STDIN, b"0\n")


def _interact(channels: Channels) -> int:
    """Join our terminal with the one in the pod."""
    import termios  # noqa: PLC0415 - not on every system, and only here
    import tty  # noqa: PLC0415 - as above

    before = termios.tcgetattr(0)
    old_handler = signal.getsignal(signal.SIGWINCH)
    ended, ending = os.pipe()
    copier = threading.Thread(target=_copy_and_tell, args=(channels, ending), daemon=True)

    def resize(*_: Any) -> None:
        _send_size(channels)

    try:
        tty.setraw(0)
        signal.signal(signal.SIGWINCH, resize)
        resize()
        copier.start()
        _type(channels, ended)
        copier.join()
    finally:
        signal.signal(signal.SIGWINCH, old_handler)
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        os.close(ended)
        os.close(ending)
    return _exit_code(channels)


def _copy_and_tell(channels: Channels, ending: int) -> None:
    _copy(channels, STDOUT, 1)
    os.write(ending, b".")


def _type(channels: Channels, ended: int) -> None:
    """Send what is typed, until the command has ended."""
    with contextlib.suppress(OSError):
        while True:
            readable, _, _ = select.select([0, ended], [], [])
            if ended in readable:
                return
            typed = os.read(0, READ_BYTES)
            if not typed:
                return
            channels.write(STDIN, typed)


def _send_size(channels: Channels) -> None:
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(1)
        message = json.dumps({"Width": size.columns, "Height": size.lines})
        channels.write(RESIZE, message.encode())
