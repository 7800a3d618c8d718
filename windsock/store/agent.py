"""The agent: makes snapshots of batches where the store is, and wakes Airflow.

The client sends the *text* of this module and of the few it needs over the stream at start (see
bootstrap.py), so the agent can never be another version than the client. It needs nothing but
Python ≥ 3.11, and imports no other part of windsock than `json_lines`, which is sent with it.

The conversation (every frame is a JSON header and a payload, see `encode`)::

    client → agent                         agent → client
    hello {protocol, client, take_over}    welcome {protocol, tree, pid}
                                           busy {holder}; the agent ends
    manifest {}                            manifest {tree, entries}
    begin {batch, base, target,            need {batch, digests}
           deleted, entries}               or refused {batch, code, message}
    content {batch, digest, last} + bytes  (refused at any time; the rest of the batch is dropped)
    commit {batch}                         applied {batch, tree, seconds} or refused
    abort {batch}
    ping {}                                pong {} (also while a long batch is applied)
                                           event {message}: as the dag-processor sent it
                                           processor {connected}
                                           farewell {code, message}; the agent ends
"""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here, whatever the locale there; pathlib knows only text.
# ruff: noqa: PTH103, PTH118

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from windsock.store.entries import Refusal, refusal_of
from windsock.store.files import write_all
from windsock.store.lock import StoreLock
from windsock.store.processor import ProcessorLine
from windsock.store.store import Store
from windsock.store.wire import MARKER, PROTOCOL, Decoder, Frame, WireError, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from windsock.store.batch import Batch


class Farewell(Exception):
    """The agent ends.

    Args:
        code: For the program: protocol, busy, taken_over, silent, hung_up, unusable.
        message: For the reader; of `taken_over` it is the taker, as JSON.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Options(NamedTuple):
    """How an agent works; see the module and `Store.collect` for the meaning."""

    store: str
    socket: str = ""
    keep: int = 20
    minimum_age: float = 60.0
    maximum_bytes: int = 2 * 1024**3
    patience: float = 30.0
    """Seconds of silence after which the client counts as dead."""
    collection_pause: float = 10.0
    """Seconds between two looks at whether there is something to collect."""

    def as_json(self) -> str:
        """As `main` reads them."""
        return json.dumps(self._asdict())


class Agent:
    """One conversation with one client, until the stream ends.

    Args:
        options: How to work.
        reader: File descriptor that the client's frames come from.
        writer: File descriptor for our frames.
        store: Instead of a plain one (tests).
        clock: Monotonic seconds.
    """

    TICK = 0.25
    SIGN_OF_LIFE = 1.0
    """Seconds after which somebody who waits for us hears that we are still here."""

    def __init__(
        self,
        options: Options,
        *,
        reader: int,
        writer: int,
        store: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._store = store or Store(options.store)
        self._lock = StoreLock(os.path.join(options.store, "lock"))
        self._processor = ProcessorLine(options.socket, clock=clock)
        self._decoder = Decoder()
        self._batch: Batch | None = None
        self._chores: list[Generator[Any, None, None]] = []
        self._greeted = False
        self._heard = self._sent = clock()
        self._collection_due = clock() + options.collection_pause
        self._asked = False
        self._full = False

    def run(self) -> str:
        """Serve until the end.

        Returns:
            The code of the farewell, for the process's log.
        """
        try:
            write_all(self._writer, MARKER)
            while True:
                self._turn()
        except Farewell as farewell:
            with contextlib.suppress(OSError):
                self._send("farewell", code=farewell.code, message=str(farewell))
            return farewell.code
        except BrokenPipeError:
            return "hung_up"
        finally:
            self._end()

    def _end(self) -> None:
        for chore in self._chores:
            with contextlib.suppress(Exception):
                chore.close()
        if self._batch is not None:
            self._store.put_aside(self._batch)
        self._processor.close()
        self._lock.release()

    def _turn(self) -> None:
        """Wait for something to happen, and do it."""
        listen: list[Any] = [self._reader]
        if self._processor.connected:
            listen.append(self._processor)
        pending = [self._processor] if self._processor.wants_to_write else []
        idle = not self._chores or self._batch is not None
        readable, writable, _ = select.select(listen, pending, [], self.TICK if idle else 0)
        if writable or self._processor in readable:
            self._hear_processor()
        if self._reader in readable:
            self._hear_client()
        elif not idle and not readable:
            self._do_chore()
        self._look_around()

    def _look_around(self) -> None:
        """What time brings: the lock, the processor's socket, a silent client, collection."""
        now = self._clock()
        if now - self._heard > self._options.patience:
            raise Farewell("silent", "the client has not been heard of")
        if not self._greeted:
            return
        if not self._lock.is_ours():
            raise self._taken_over()
        moved = self._batch is None and self._store.keep_current()
        if self._processor.connect():
            self._send("processor", connected=True)
            self._poke()
        elif moved:
            self._poke()
        if now >= self._collection_due and not self._chores and self._batch is None:
            self._collection_due = now + self._options.collection_pause
            self._asked = False
            self._chores.append(self._consider_collection())

    def _taken_over(self) -> Farewell:
        return Farewell("taken_over", json.dumps(self._lock.taker()))

    def _do_chore(self) -> None:
        try:
            next(self._chores[0])
        except StopIteration:
            self._chores.pop(0)
        except (OSError, Refusal):
            self._chores.pop(0)  # housekeeping can wait; a batch would report the error

    def _consider_collection(self) -> Generator[None, None, None]:
        """Ask what is still needed, if there is something to gain."""
        many = self._full or len(self._store.snapshots()) > self._options.keep
        if many or (yield from self._store.too_large(self._options.maximum_bytes)):
            self._ask_what_is_needed()

    def _make_room(self) -> None:
        """The disk is full: remove what nobody needs, however few there are.

        The client tries again. Without a dag-processor it is unknown what is needed: all stays.
        """
        self._store.make_room()
        self._full = True
        self._ask_what_is_needed()

    def _ask_what_is_needed(self) -> None:
        self._asked = self._processor.send({"type": "references"})

    # the client

    def _hear_client(self) -> None:
        data = os.read(self._reader, 1024 * 1024)
        if not data:
            raise Farewell("hung_up", "the client has gone")
        self._heard = self._clock()
        if self._greeted:
            # On a slow line content comes for minutes, and leaves the client no room to ask.
            self._show_life()
        try:
            for frame in self._decoder.feed(data):
                self._answer(frame)
        except WireError as error:
            raise Farewell("protocol", str(error)) from None
        except (KeyError, TypeError, ValueError) as error:
            raise Farewell("protocol", f"a message is malformed: {error!r}") from None
        # Whatever it asked may have taken us long; meanwhile we could not have heard it.
        self._heard = self._clock()

    def _answer(self, frame: Frame) -> None:
        if not self._greeted:
            if frame.type != "hello":
                raise Farewell("protocol", f"expected hello, got {frame.type}")
            self._greet(frame.header)
            return
        answers: dict[str, Callable[[Frame], None]] = {
            "manifest": self._send_manifest,
            "begin": self._begin,
            "content": self._content,
            "commit": self._commit,
            "abort": self._abort,
            "ping": self._pong,
        }
        if frame.type not in answers:
            raise Farewell("protocol", f"{frame.type} is no message of protocol {PROTOCOL}")
        answers[frame.type](frame)

    def _greet(self, hello: Mapping[str, Any]) -> None:
        if hello["protocol"] != PROTOCOL:
            raise Farewell("protocol", f"this agent speaks protocol {PROTOCOL}")
        try:
            os.makedirs(self._options.store, exist_ok=True)
            self._show_life()  # Whoever froze until now may have been left long ago.
            holder = self._lock.acquire(hello["client"], take_over=bool(hello["take_over"]))
            if holder:
                self._send("busy", holder=holder)
                raise Farewell("busy", "the store is busy with another agent")
            self._store.open(is_ours=self._lock.is_ours, tick=self._show_life)
        except Refusal:
            raise self._taken_over() from None
        except OSError as error:
            raise Farewell(
                "unusable", f"{self._options.store} cannot be used as a store: {error}"
            ) from None
        self._greeted = True
        self._send("welcome", protocol=PROTOCOL, tree=self._store.tree, pid=os.getpid())

    def _send_manifest(self, _: Frame) -> None:
        self._send("manifest", tree=self._store.tree, entries=self._store.entries)

    def _begin(self, frame: Frame) -> None:
        self._abort(frame)
        header = frame.header
        number = int(header["batch"])
        try:
            self._batch = self._store.begin(
                number=number,
                base=header["base"],
                target=header["target"],
                deleted=header["deleted"],
                entries=header["entries"],
                tick=self._show_life,
            )
        except (Refusal, OSError) as error:
            self._refuse(number, error)
        else:
            self._send("need", batch=number, digests=sorted(self._batch.needed))

    def _content(self, frame: Frame) -> None:
        batch = self._current(frame)
        if batch is None:
            return
        try:
            self._store.receive(
                batch,
                digest=str(frame.header["digest"]),
                data=frame.payload,
                last=bool(frame.header["last"]),
            )
        except (Refusal, OSError) as error:
            self._refuse(batch.number, error)

    def _commit(self, frame: Frame) -> None:
        batch = self._current(frame)
        if batch is None:
            return
        try:
            self._store.commit(batch, tick=self._show_life)
        except (Refusal, OSError) as error:
            self._refuse(batch.number, error)
            return
        seconds = time.monotonic() - batch.started
        # In this order, so that the client knows the snapshot before it hears what became of it.
        self._send("applied", batch=batch.number, tree=batch.target, seconds=round(seconds, 6))
        self._poke()
        self._store.drop(batch)
        self._batch = None

    def _abort(self, _: Frame) -> None:
        if self._batch is not None:
            self._store.put_aside(self._batch)
            self._batch = None

    def _current(self, frame: Frame) -> Batch | None:
        """The batch a frame belongs to; None if it was refused, and the rest is to be dropped."""
        batch = self._batch
        return batch if batch is not None and frame.header["batch"] == batch.number else None

    def _refuse(self, number: int, error: Refusal | OSError) -> None:
        if self._batch is not None:
            self._store.drop(self._batch)
            self._batch = None
        refusal = error if isinstance(error, Refusal) else refusal_of(error)
        if refusal.code == "no_space":
            self._make_room()
        self._send("refused", batch=number, code=refusal.code, message=str(refusal))

    def _pong(self, _: Frame) -> None:
        self._send("pong")

    def _show_life(self) -> None:
        if self._clock() - self._sent > self.SIGN_OF_LIFE:
            try:
                self._send("pong")
            except OSError:
                # No fault of the store, in whose work this is called: it must not take it for one.
                raise Farewell("hung_up", "the client has gone") from None

    def _send(self, kind: str, **values: Any) -> None:
        self._sent = self._clock()
        write_all(self._writer, encode({"type": kind, **values}))

    # the dag-processor

    def _poke(self) -> None:
        if self._store.tree is not None:
            self._processor.send({"type": "poke", "snapshot": self._store.tree})

    def _hear_processor(self) -> None:
        for message in self._processor.receive():
            if self._asked and message.get("type") == "references":
                self._asked = False
                self._chores.append(self._collection(message))
            else:
                self._send("event", message=message)
        if not self._processor.connected:
            self._send("processor", connected=False)

    def _collection(self, answer: Mapping[str, Any]) -> Generator[None, None, None]:
        snapshots = answer.get("snapshots")
        if not isinstance(snapshots, list):
            return
        keep, self._full = 0 if self._full else self._options.keep, False
        yield from self._store.collect(
            referenced={str(tree) for tree in snapshots},
            keep=keep,
            minimum_age=self._options.minimum_age,
            maximum_bytes=self._options.maximum_bytes,
        )


def main() -> None:
    """Serve on standard input and output; the options are JSON in the first argument."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Frames only on standard output: whatever else prints goes to standard error.
    writer = os.dup(1)
    os.dup2(2, 1)
    options = Options(**json.loads(sys.argv[1]))
    code = Agent(options, reader=0, writer=writer).run()
    if code not in ("hung_up", "busy", "taken_over"):
        sys.exit(f"the agent ended: {code}")


if __name__ == "__main__":
    main()
