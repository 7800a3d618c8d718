"""The client's side of a conversation with an agent.

`windsock.store.agent` has the table of all messages, `windsock.store.wire` the frames.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.store.wire import MARKER, PROTOCOL, Decoder, Frame, WireError, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.sync.transport import Transport

READ_BYTES = 256 * 1024
MAXIMUM_NOISE = 64 * 1024
"""Bytes that may come before the agent's marker: a banner, a warning of a shell."""
PULSE = 1.0
"""Seconds between two checks of how long the agent has been silent."""
PING_AFTER = 5.0
"""Seconds of silence, on either side, after which the agent is pinged: it takes a client for dead
that it has not heard of, however much it says itself."""
DEAD_AFTER = 15.0
"""Seconds of silence after which the agent counts as dead."""
HALT_HINT = "Put back what is missing, or sync the folder as it is: `invoke sync --allow-empty`."
ASIDE = frozenset({"event", "processor"})
"""Types of messages that are no answers and come at any time."""


class LinkLost(Exception):
    """The conversation ended.

    Args:
        reason: For a person.
        code: Of the agent's farewell, or "lost".
    """

    def __init__(self, reason: str, code: str = "lost") -> None:
        super().__init__(reason)
        self.code = code


TAKE_OVER_HINT = "Ask them, or take the sync over: `invoke sync --take-over`."


class StoreBusy(EnvironmentFailure):
    """Somebody else syncs.

    Args:
        holder: The other agent, as far as is known: client (`name#…`), since (seconds of the wall
            clock), pid, host.
        lost: They took the sync over from us.
    """

    def __init__(self, holder: dict[str, Any], *, lost: bool = False) -> None:
        who, sign, _ = str(holder.get("client", "")).partition("#")
        if not sign:  # The session has no name.
            who = f"process {holder.get('pid')} on {holder.get('host')}"
        self.holder = holder
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("since") or 0))
        what = "has taken the sync over" if lost else "syncs here"
        super().__init__(f"{who} {what}, since {since}", TAKE_OVER_HINT)


class Link:
    """One conversation.

    One thread reads all frames, so the agent never has to wait for us. Another thread pings a
    silent agent and closes the transport of a dead one, even while a write to it blocks.

    Args:
        transport: A freshly started agent; the link closes it.
        aside: Called in the reading thread with each message that is no answer (see `ASIDE`).
        ended: Called once, when the conversation has ended.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        aside: Callable[[Frame], None],
        ended: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._aside = aside
        self._ended = ended
        self._clock = clock
        self._heard = self._wrote = clock()
        self._writing = threading.Lock()
        self._answers: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._reason = LinkLost("the stream ended")
        self._reader = threading.Thread(target=self._read, name="windsock-sync-reader", daemon=True)
        self._pulse = threading.Thread(target=self._beat, name="windsock-sync-pulse", daemon=True)
        self._reader.start()
        self._pulse.start()

    @property
    def alive(self) -> bool:
        """Whether the conversation goes on."""
        return not self._over.is_set()

    @property
    def lost(self) -> LinkLost:
        """Why it has ended."""
        return LinkLost(str(self._reason), self._reason.code)

    @property
    def answer_waits(self) -> bool:
        """Whether an answer has come, such as a refusal."""
        return not self._answers.empty()

    def hello(self, *, client: str, take_over: bool) -> None:
        """Greet the agent, which may take the store for us from another client."""
        self.send({"type": "hello", "protocol": PROTOCOL, "client": client, "take_over": take_over})

    def welcome(self, *, timeout: float) -> Frame:
        """Wait for the agent's answer to `hello`; raises as `receive` does.

        Raises:
            StoreBusy: The store is busy with another client.
        """
        answer = self.receive("welcome", "busy", timeout=timeout)
        if answer.type == "busy":
            raise StoreBusy(answer.header["holder"])
        return answer

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame; from any thread.

        Raises:
            LinkLost: The conversation has ended.
        """
        self.send_raw(encode(header, payload))

    def send_raw(self, frames: bytes) -> None:
        """Send whole encoded frames; raises as `send` does."""
        try:
            with self._writing:
                self._transport.write(frames)
                self._wrote = self._clock()
        except OSError:
            self._over.wait(PULSE)  # The reading thread may learn the reason.
            raise self.lost from None

    def receive(self, *types: str, timeout: float) -> Frame:
        """The next answer of one of the types; other answers before it are ignored.

        Raises:
            LinkLost: The conversation ended.
            DeadlineExceeded: No answer in time.
        """
        deadline = self._clock() + timeout
        while True:
            try:
                frame = self._answers.get(timeout=max(0.0, deadline - self._clock()))
            except queue.Empty:
                raise DeadlineExceeded(
                    f"the agent did not answer within {timeout:.0f} s (expected {types[0]})",
                    "The disk of the store, or the machine, is too slow or hung.",
                ) from None
            if frame is None:
                self._answers.put(None)
                raise self.lost
            if frame.type in types:
                return frame

    def close(self) -> None:
        """End the conversation, and wait for the threads, except the calling one."""
        self._transport.close()
        self._over.set()
        for thread in (self._reader, self._pulse):
            if thread is not threading.current_thread():
                thread.join()

    def _read(self) -> None:
        try:
            self._read_frames(Decoder())
        except (WireError, LinkLost) as error:
            self._lose(str(error))
        except (KeyError, TypeError, ValueError) as error:
            self._lose(f"the agent's message is malformed: {error!r}")
        finally:
            try:
                self._transport.close()
                self._explain()
            finally:  # Even after an unexpected error: other threads wait for this.
                self._over.set()
                self._answers.put(None)
                self._ended()

    def _read_frames(self, decoder: Decoder) -> None:
        data = self._find_marker()
        while True:
            for frame in decoder.feed(data):
                self._sort(frame)
            data = self._transport.read(READ_BYTES)
            self._heard = self._clock()
            if not data:
                break
        if decoder.pending:
            raise WireError("the stream ended inside a frame")

    def _sort(self, frame: Frame) -> None:
        if frame.type in ASIDE:
            self._aside(frame)
        elif frame.type == "farewell":
            self._reason = LinkLost(str(frame.header["message"]), str(frame.header["code"]))
        elif frame.type != "pong":
            self._answers.put(frame)

    def _find_marker(self) -> bytes:
        """The bytes after the agent's marker."""
        seen = b""
        while MARKER not in seen:
            data = self._transport.read(READ_BYTES)
            self._heard = self._clock()
            seen += data
            if not data or (len(seen) > MAXIMUM_NOISE and MARKER not in seen):
                noise = seen[-500:].decode("utf-8", "replace").strip()
                raise LinkLost(f"the agent did not start: {noise or 'it wrote nothing'}")
        return seen.partition(MARKER)[2]

    def _explain(self) -> None:
        """Add the end of the agent's error stream to the reason, if the agent gave none."""
        if self._reason.code == "lost":
            last = self._transport.diagnosis().strip().splitlines()[-3:]
            if last:
                self._reason = LinkLost(f"{self._reason}: {' / '.join(last)}")

    def _lose(self, reason: str) -> None:
        """Set the reason, if the agent gave none."""
        if self._reason.code == "lost":
            self._reason = LinkLost(reason)

    def _beat(self) -> None:
        while not self._over.wait(PULSE):
            now = self._clock()
            silent = now - self._heard
            if silent > DEAD_AFTER:
                self._reason = LinkLost(f"the agent has been silent for {silent:.0f} s")
                self._transport.close()
                return
            quiet = max(silent, now - self._wrote)
            if quiet > PING_AFTER and self._writing.acquire(blocking=False):
                try:
                    with contextlib.suppress(OSError):
                        self._transport.write(encode({"type": "ping"}))
                        self._wrote = self._clock()
                finally:
                    self._writing.release()
