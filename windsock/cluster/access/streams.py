"""The sync agent in a pod, on one exec stream: a websocket with channels for stdin, stdout, stderr.

Each message begins with a byte, the number of its channel. One thread moves all bytes: a TLS
connection may not be read and written by two threads at once, and a write that waits for the other
side must not stop us from reading, or both sides wait for ever.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from websocket import ABNF

from windsock.cluster.api.workloads import ready_pod
from windsock.sync import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websocket import WebSocket

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object
    from windsock.store.agent import Options

DAG_PROCESSOR = "dag-processor"

STDIN, STDOUT, STDERR, STATUS = range(4)
"""The channels of an exec. The last one reports how the command ended."""

PIECE_BYTES = 64 * 1024
"""The longest message that we send; the other side needs memory for a whole one."""
WAITING_BYTES = 1024 * 1024
"""So many bytes wait in each direction; then whoever sends them waits."""
LAST_BYTES = 20_000
"""Of stderr, for the diagnosis."""

PING_SECONDS = 20.0
SILENCE_SECONDS = 60.0
"""Without so much as the answer to a ping, the other side counts as gone."""

_FIRST_BYTE = 0x80 | ABNF.OPCODE_BINARY
_MASKED = 0x80
_WAIT_ERRORS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ExecTransport:
    """A command in a pod, as a `windsock.sync.transport.Transport`.

    Args:
        websocket: Connected; it belongs to this object from now on.
        pod: The name, for the diagnosis.
        masks: Mask what is sent; see `_head`.
    """

    def __init__(self, websocket: WebSocket, *, pod: str, masks: bool = True) -> None:
        connected = websocket.sock
        if connected is None:
            raise ValueError("the websocket must be connected")
        connected.setblocking(False)
        self._websocket = websocket
        self._socket: socket.socket = connected
        self._masks = masks
        self._pod = pod
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._state = threading.Condition()
        self._output = bytearray()
        self._input: deque[memoryview] = deque()
        self._unsent = 0
        self._errors = self._status = b""
        self._channel = -1
        self._ended = False
        self._closing = False
        self._reason = ""
        self._thread = threading.Thread(target=self._run, name="windsock-exec", daemon=True)
        self._thread.start()

    # --- for every thread -----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether neither side has ended the connection."""
        with self._state:
            return not self._ended

    def read(self, limit: int) -> bytes:
        """At least one byte of stdout and at most `limit`; nothing at its end."""
        with self._state:
            self._state.wait_for(lambda: self._output or self._ended)
            if len(self._output) >= WAITING_BYTES:
                self._wake()
            piece = bytes(self._output[:limit])
            del self._output[:limit]
            return piece

    def write(self, data: bytes) -> None:
        """Send all of it to stdin; waits while much is on its way.

        Raises:
            BrokenPipeError: The connection has ended.
        """
        view = memoryview(data)
        while view:
            piece, view = view[:PIECE_BYTES], view[PIECE_BYTES:]
            frame = self._frame(piece)
            with self._state:
                self._state.wait_for(
                    lambda: self._unsent < WAITING_BYTES or self._ended or self._closing
                )
                if self._ended or self._closing:
                    raise BrokenPipeError(self._reason or "the connection is closed")
                self._enqueue(frame)

    def close(self) -> None:
        """End the connection: the agent's input ends with it, and so does the agent."""
        with self._state:
            self._closing = True
            self._state.notify_all()
            self._wake()
        self._thread.join()

    def diagnosis(self) -> str:
        """The last lines of stderr, and why the connection or the command ended."""
        with self._state:
            lines = [line[:1000] for line in _text(self._errors).splitlines()]
            if self._ended and self._reason:
                lines.append(f"the connection to pod {self._pod} broke: {self._reason}")
            if self._ended and (words := _last_words(self._status)):
                lines.append(words)
        return "\n".join(lines)

    # --- the thread that owns the socket --------------------------------------------------------

    def _frame(self, piece: memoryview) -> bytes:
        if self._masks:
            return ABNF.create_frame(bytes([STDIN]) + piece, ABNF.OPCODE_BINARY).format()
        return b"".join((_head(len(piece) + 1), bytes([STDIN]), piece))

    def _enqueue(self, frame: bytes) -> None:
        if not self._input:
            self._wake()
        self._input.append(memoryview(frame))
        self._unsent += len(frame)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b".")

    def _run(self) -> None:
        reason = ""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wakened, selectors.EVENT_READ)
                self._move(selector)
        except _Closed as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - any failure of the connection is its end
            reason = str(error) or type(error).__name__
        with self._state:
            self._reason = "" if self._closing else reason
            self._ended = True
            self._state.notify_all()
        for end in (self._socket, self._waker, self._wakened):
            end.close()

    def _move(self, selector: selectors.BaseSelector) -> None:
        """Move bytes both ways until the connection ends, which raises, or `close`."""
        heard = pinged = time.monotonic()
        while True:
            with self._state:
                if self._closing:
                    self._say_goodbye()
                    return
                reading = len(self._output) < WAITING_BYTES
                wanted = selectors.EVENT_READ * reading
                wanted |= selectors.EVENT_WRITE * bool(self._input)
            self._watch(selector, wanted)
            for key, _ in selector.select(PING_SECONDS / 4):
                if key.fileobj is self._wakened:
                    with contextlib.suppress(BlockingIOError):
                        self._wakened.recv(4096)
            if reading and self._receive():
                heard = time.monotonic()
            try:
                self._send()
            except OSError:
                self._receive()  # what came before the end, such as how the command ended
                raise
            now = time.monotonic()
            if reading and now - heard > SILENCE_SECONDS:
                raise TimeoutError(f"nothing was heard for {now - heard:.0f} s")
            if now - max(heard, pinged) > PING_SECONDS:
                pinged = now
                self._control(ABNF.OPCODE_PING, b"")

    def _watch(self, selector: selectors.BaseSelector, wanted: int) -> None:
        known = selector.get_map().get(self._socket)
        if (known.events if known else 0) == wanted:
            return
        if known:
            selector.unregister(self._socket)
        if wanted:
            selector.register(self._socket, wanted)

    def _receive(self) -> bool:
        """Take in every message that has arrived; returns whether anything did."""
        heard = False
        while True:
            try:
                frame: ABNF = self._websocket.recv_frame()  # type: ignore[no-untyped-call] # its own
            except _WAIT_ERRORS:
                return heard
            heard = True
            data = frame.data.encode() if isinstance(frame.data, str) else bytes(frame.data or b"")
            if frame.opcode == ABNF.OPCODE_CLOSE:
                raise _Closed(_close_reason(data))
            if frame.opcode == ABNF.OPCODE_PING:
                self._control(ABNF.OPCODE_PONG, data)
            elif frame.opcode != ABNF.OPCODE_PONG and data and self._accept(frame.opcode, data):
                return True

    def _accept(self, opcode: int, data: bytes) -> bool:
        """Put the bytes of a message where they belong; returns whether enough bytes wait now."""
        if opcode != ABNF.OPCODE_CONT:  # the rest of a message has no number of a channel
            self._channel, data = data[0], data[1:]
        with self._state:
            if self._channel == STDOUT and data:
                self._output += data
                self._state.notify_all()
            elif self._channel == STDERR:
                self._errors = (self._errors + data)[-LAST_BYTES:]
            elif self._channel == STATUS:
                self._status += data
            return len(self._output) >= WAITING_BYTES

    def _control(self, opcode: int, data: bytes) -> None:
        with self._state:
            self._enqueue(ABNF.create_frame(data, opcode).format())

    def _send(self) -> None:
        """Send what waits, as far as the network takes it."""
        while True:
            with self._state:
                if not self._input:
                    return
                view = self._input[0]
            try:
                count = self._socket.send(view)
            except _WAIT_ERRORS:
                return
            with self._state:
                if count == len(view):
                    self._input.popleft()
                else:
                    self._input[0] = view[count:]
                self._unsent -= count
                self._state.notify_all()

    def _say_goodbye(self) -> None:
        """Send a close frame, unless half of another message is still to be sent."""
        with contextlib.suppress(OSError):
            if not self._input:
                frame = ABNF.create_frame((1000).to_bytes(2, "big"), ABNF.OPCODE_CLOSE)
                self._socket.send(frame.format())


class _Closed(Exception):
    """The other side closed the websocket."""


def _head(size: int) -> bytes:
    """The head of a binary message of this size whose mask is zero: the bytes are sent as they are.

    RFC 6455 asks for a random mask, so that a proxy that does not know websockets cannot take a
    message for a request (10.3). No proxy sees into an encrypted connection, and to mask costs more
    than all else that we do with a byte: 0.3 CPU-s for 50 MB.
    """
    if size < ABNF.LENGTH_7:
        length = struct.pack("!B", _MASKED | size)
    elif size < ABNF.LENGTH_16:
        length = struct.pack("!BH", _MASKED | 126, size)
    else:
        length = struct.pack("!BQ", _MASKED | 127, size)
    return bytes([_FIRST_BYTE]) + length + bytes(4)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _close_reason(data: bytes) -> str:
    """The reason in a close frame; empty for an ordinary end."""
    code = int.from_bytes(data[:2], "big") if data else 1000
    return "" if code in {1000, 1001, 1005} else f"closed with code {code}: {_text(data[2:])}"


def _last_words(status: bytes) -> str:
    """How a command failed; nothing if it did not, or if a cut has shortened the status."""
    try:
        found = json.loads(status)
    except ValueError:
        return ""
    if not isinstance(found, dict) or found.get("status") == "Success":
        return ""
    for cause in (found.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return f"the agent ended with exit code {cause['message']}"
    return str(found.get("message", "it could not be started"))


def exec_in(cluster: Cluster, pod: Object, command: Sequence[str]) -> ExecTransport:
    """Start a command in the first container of a pod.

    Raises:
        Refusal: We may not, or the pod is gone.
        ClusterUnreachable: The cluster does not answer.
    """
    name = pod["metadata"]["name"]
    query = [("command", part) for part in command]
    query += [
        ("container", pod["spec"]["containers"][0]["name"]),
        *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
    ]
    path = f"{cluster.path('v1', 'Pod', name)}/exec"
    websocket = cluster.connection.websocket(path, query=query, doing=f"exec into pod {name}")
    return ExecTransport(websocket, pod=name, masks=not cluster.server.startswith("https:"))


def exec_transport(cluster: Cluster, options: Options) -> ExecTransport:
    """Start the sync agent in the dag-processor's pod that is ready now, and send it over.

    Raises:
        EnvironmentFailure: No pod is ready, or the cluster refuses.
    """
    pod = ready_pod(cluster, DAG_PROCESSOR)
    transport = exec_in(cluster, pod, bootstrap.command("python3", options))
    with contextlib.suppress(OSError):  # an agent that ended at once gave the reason on stderr
        transport.write(bootstrap.greeting())
    return transport
