"""Kubernetes' channels on a websocket, for two threads: one reads, one writes.

Each message begins with a byte, the number of its channel. One thread of ours owns the socket and
does nothing but move bytes: a TLS connection may not be read and written by two threads at once,
and a write that waits for the other side must not keep us from reading, or the two could wait for
each other for ever.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from websocket import ABNF

if TYPE_CHECKING:
    from collections.abc import Callable

    from websocket import WebSocket

STDIN, STDOUT, STDERR, ERROR = range(4)
"""The channels of an exec."""

PIECE = 64 * 1024
"""The longest message we send; the other side holds one whole."""

HELD = 1024 * 1024
"""Bytes that wait in each direction before whoever sends them waits."""

PING_SECONDS = 20.0
SILENCE_SECONDS = 60.0
"""Without so much as the answer to a ping, the other side counts as gone."""

FINAL = MASKED = 0x80
"""The first bit of a frame's first byte, and of its second."""

_WAIT_ERRORS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Channels:
    """An open websocket with channels; ends when either side closes it.

    Args:
        websocket: Connected; it belongs to this object from now on.
        clock: Monotonic seconds.
    """

    def __init__(
        self, websocket: WebSocket, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._websocket = websocket
        self._clock = clock
        connected = websocket.sock
        if connected is None:
            raise ValueError("the websocket must be connected")
        connected.setblocking(False)
        self._socket: socket.socket = connected
        self._encrypted = _is_encrypted(connected)
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._state = threading.Condition()
        self._incoming: dict[int, deque[bytes]] = defaultdict(deque)
        self._held = 0
        self._outgoing: deque[memoryview] = deque()
        self._unsent = 0
        self._ended = False
        self._closing = False
        self._reason = ""
        self._fragment = -1
        self._thread = threading.Thread(target=self._run, name="windsock-channels", daemon=True)
        self._thread.start()

    # --- for everybody --------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether neither side has closed it."""
        with self._state:
            return not self._ended

    @property
    def reason(self) -> str:
        """Why it ended; empty if it was closed as it should be."""
        return self._reason

    def read(self, channel: int, limit: int) -> bytes:
        """Wait for at least one byte, at most `limit`; nothing at the end."""
        with self._state:
            pieces = self._incoming[channel]
            self._state.wait_for(lambda: pieces or self._ended)
            if not pieces:
                return b""
            piece = pieces.popleft()
            if len(piece) > limit:
                pieces.appendleft(piece[limit:])
                piece = piece[:limit]
            was_full = self._held >= HELD
            self._held -= len(piece)
            if was_full and self._held < HELD:
                self._wake()
            return piece

    def write(self, channel: int, data: bytes) -> None:
        """Send all of it; waits while much is on its way.

        Raises:
            BrokenPipeError: It ended.
        """
        view = memoryview(data)
        while view:
            piece, view = view[:PIECE], view[PIECE:]
            frame = self._frame(bytes([channel]), piece)
            with self._state:
                self._state.wait_for(lambda: self._unsent < HELD or self._ended or self._closing)
                if self._ended or self._closing:
                    raise BrokenPipeError(self._reason or "the connection is closed")
                self._enqueue(frame)

    def flush(self) -> None:
        """Wait until everything written has been handed to the network."""
        with self._state:
            self._state.wait_for(lambda: not self._unsent or self._ended)

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        with self._state:
            return self._state.wait_for(lambda: self._ended, timeout)

    def close(self) -> None:
        """End it; whoever reads or writes wakes up."""
        with self._state:
            self._closing = True
            self._state.notify_all()
            self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the thread that owns the socket --------------------------------------------------------

    def _frame(self, channel: bytes, piece: memoryview) -> bytes:
        if self._encrypted:
            return b"".join((_head(len(piece) + 1), channel, piece))
        return ABNF.create_frame(channel + piece, ABNF.OPCODE_BINARY).format()

    def _enqueue(self, frame: bytes) -> None:
        if not self._outgoing:
            self._wake()
        self._outgoing.append(memoryview(frame))
        self._unsent += len(frame)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b".")

    def _run(self) -> None:
        reason = ""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
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
        heard = pinged = self._clock()
        while True:
            with self._state:
                if self._closing:
                    self._say_goodbye()
                    return
                reading = self._held < HELD
                writing = bool(self._outgoing)
            events = selectors.EVENT_READ * reading | selectors.EVENT_WRITE * writing
            self._watch(selector, events)
            for key, _ in selector.select(PING_SECONDS / 4):
                if key.fileobj is self._wakened:
                    with contextlib.suppress(BlockingIOError):
                        self._wakened.recv(4096)
            if reading and self._take():
                heard = self._clock()
            try:
                self._send()
            except OSError:
                self._take()  # what it said before it ended, such as an exit code
                raise
            now = self._clock()
            if reading and now - heard > SILENCE_SECONDS:
                raise TimeoutError(f"nothing was heard for {now - heard:.0f} s")
            if now - max(heard, pinged) > PING_SECONDS:
                pinged = now
                self._control(ABNF.OPCODE_PING, b"")

    def _watch(self, selector: selectors.BaseSelector, events: int) -> None:
        known = selector.get_map()
        if not events:
            if self._socket in known:
                selector.unregister(self._socket)
        elif self._socket not in known:
            selector.register(self._socket, events)
        elif selector.get_key(self._socket).events != events:
            selector.modify(self._socket, events)

    def _take(self) -> bool:
        """Take in every message that has arrived; whether anything did."""
        heard = False
        while True:
            try:
                frame: ABNF = self._websocket.recv_frame()  # type: ignore[no-untyped-call] # its own
            except _WAIT_ERRORS:
                return heard
            heard = True
            if frame.opcode == ABNF.OPCODE_CLOSE:
                raise _Closed(_close_reason(_bytes(frame)))
            if frame.opcode == ABNF.OPCODE_PING:
                self._control(ABNF.OPCODE_PONG, _bytes(frame))
            elif frame.opcode != ABNF.OPCODE_PONG and self._accept(frame):
                return True

    def _accept(self, frame: ABNF) -> bool:
        """Put a message where its reader finds it; whether enough is held by now."""
        data = _bytes(frame)
        if frame.opcode == ABNF.OPCODE_CONT:
            channel = self._fragment
        elif not data:
            return False
        else:
            channel, data = data[0], data[1:]
        self._fragment = channel
        with self._state:
            if data:
                self._incoming[channel].append(data)
                self._held += len(data)
                self._state.notify_all()
            return self._held >= HELD

    def _control(self, opcode: int, data: bytes) -> None:
        with self._state:
            self._enqueue(ABNF.create_frame(data, opcode).format())

    def _send(self) -> None:
        """Send what waits, as far as the network takes it."""
        while True:
            with self._state:
                if not self._outgoing:
                    return
                view = self._outgoing[0]
            try:
                count = self._socket.send(view)
            except _WAIT_ERRORS:
                return
            with self._state:
                if count == len(view):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = view[count:]
                self._unsent -= count
                self._state.notify_all()

    def _say_goodbye(self) -> None:
        """A close frame, unless half of another message is still to be sent."""
        with contextlib.suppress(OSError):
            if not self._outgoing:
                frame = ABNF.create_frame((1000).to_bytes(2, "big"), ABNF.OPCODE_CLOSE)
                self._socket.send(frame.format())


class _Closed(Exception):
    """The other side closed the websocket."""


def _is_encrypted(connected: socket.socket) -> bool:
    return isinstance(connected, ssl.SSLSocket)


def _head(size: int) -> bytes:
    """What comes before a binary message of this size whose mask is zero: it goes as it is.

    A random mask, which RFC 6455 asks for, keeps what a script sends from being taken for a request
    by a proxy on the way that does not know websockets (10.3). On an encrypted connection none can
    see it, and masking would cost more than all the rest that we do with a byte.
    """
    if size < ABNF.LENGTH_7:
        length = struct.pack("!B", MASKED | size)
    elif size < ABNF.LENGTH_16:
        length = struct.pack("!BH", MASKED | 126, size)
    else:
        length = struct.pack("!BQ", MASKED | 127, size)
    return bytes([FINAL | ABNF.OPCODE_BINARY]) + length + bytes(4)


def _bytes(frame: ABNF) -> bytes:
    return frame.data.encode() if isinstance(frame.data, str) else bytes(frame.data or b"")


def _close_reason(data: bytes) -> str:
    """What a close frame says; nothing where it is the ordinary end."""
    code = int.from_bytes(data[:2], "big") if data else 1000
    ordinary = code in {1000, 1001, 1005}
    return "" if ordinary else f"closed with code {code}: {data[2:].decode('utf-8', 'replace')}"
