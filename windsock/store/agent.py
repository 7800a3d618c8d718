"""The agent: makes snapshots of batches where the store is, and wakes Airflow.

The client sends the agent's text at the start, so the two are always of the same version. The
agent needs nothing but Python ≥ 3.11.

The conversation (every frame is a JSON header and a payload, see `encode`)::

    client → agent                         agent → client
    hello {protocol, client, take_over}    welcome {protocol, tree, pid}
                                           busy {holder}; the agent ends
    manifest {}                            manifest {tree, entries}
    begin {batch, base, target,            need {batch, digests}
           deleted, entries}               or refused {batch, code, message}
    content {batch, digest, last} + bytes  (refused at any time; the rest of the batch is dropped)
    commit {batch}                         applied {batch, tree} or refused
    abort {batch}
    settings {names}; the dag-processor answers with an event
    ping {}                                pong {} (also while a long batch is applied)
                                           event {message}: as the dag-processor sent it
                                           processor {connected}
                                           farewell {code, message}; the agent ends
"""

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
        message: For a person; of `taken_over` it is the new holder, as JSON.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Options(NamedTuple):
    """How an agent works; `Store.collect` describes the numbers."""

    store: str
    socket: str = ""
    keep: int = 20
    minimum_age: float = 60.0
    maximum_bytes: int = 2 * 1024**3
    patience: float = 30.0
    """Seconds of silence after which the client counts as dead."""
    collection_pause: float = 10.0
    """Seconds between two looks at whether there is something to collect."""


class Agent:
    """One conversation with one client, until the stream ends.

    Args:
        options: How to work.
        reader: File descriptor that the client's frames come from.
        writer: File descriptor for our frames.
        store: Instead of a plain one (tests).
    """

    TICK = 0.25
    SIGN_OF_LIFE = 1.0
    """Seconds of silence after which the agent writes a `pong`, also during long work."""

    def __init__(
        self,
        options: Options,
        *,
        reader: int,
        writer: int,
        store: Store | None = None,
    ) -> None:
        self._options = options
        self._reader = reader
        self._writer = writer
        self._store = store or Store(options.store)
        self._lock = StoreLock(os.path.join(options.store, "lock"))
        self._processor = ProcessorLine(options.socket)
        self._decoder = Decoder()
        self._batch: Batch | None = None
        self._chore: Generator[None, None, None] | None = None
        """Housekeeping, a little at each step while nobody waits."""
        self._greeted = False
        self._heard = self._sent = time.monotonic()
        self._collection_due = self._heard + options.collection_pause
        self._asked = False
        """Whether the dag-processor was asked which snapshots are needed."""
        self._full = False

    def run(self) -> str:
        """Serve until the end.

        Returns:
            The code of the farewell, for the process's log.
        """
        try:
            write_all(self._writer, MARKER)
            while True:
                self._serve_once()
        except Farewell as farewell:
            with contextlib.suppress(OSError):
                self._send("farewell", code=farewell.code, message=str(farewell))
            return farewell.code
        except BrokenPipeError:
            return "hung_up"
        finally:
            if self._batch is not None:
                self._store.put_aside(self._batch)
            self._processor.close()
            self._lock.release()

    def _serve_once(self) -> None:
        """Wait for something to happen, and do it."""
        listen: list[Any] = [self._reader]
        if self._processor.connected:
            listen.append(self._processor)
        pending = [self._processor] if self._processor.wants_to_write else []
        chore = self._chore if self._batch is None else None
        timeout = self.TICK if chore is None else 0
        readable, writable, _ = select.select(listen, pending, [], timeout)
        if writable or self._processor in readable:
            self._hear_processor()
        if self._reader in readable:
            self._hear_client()
        elif chore is not None and not readable:
            try:
                next(chore)
            except (StopIteration, OSError, Refusal):  # A batch reports the error, if it lasts.
                self._chore = None
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if now - self._heard > self._options.patience:
            raise Farewell("silent", "the client has not been heard of")
        if not self._greeted:
            return
        if not self._lock.is_ours():
            raise self._taken_over()
        moved = self._batch is None and self._store.restore_current()
        if self._processor.connect():
            self._send("processor", connected=True)
            self._poke()
        elif moved:
            self._poke()
        if now >= self._collection_due and self._chore is None and self._batch is None:
            self._collection_due = now + self._options.collection_pause
            self._asked = False
            self._chore = self._consider_collection()

    def _taken_over(self) -> Farewell:
        return Farewell("taken_over", json.dumps(self._lock.holder()))

    def _consider_collection(self) -> Generator[None, None, None]:
        """Ask which snapshots are needed, if there are many or they are large."""
        many = self._full or len(self._store.snapshots()) > self._options.keep
        if many or (yield from self._store.too_large(self._options.maximum_bytes)):
            self._ask_what_is_needed()

    def _ask_what_is_needed(self) -> None:
        self._asked = self._processor.send({"type": "references"})

    # the client

    def _hear_client(self) -> None:
        data = os.read(self._reader, 1024 * 1024)
        if not data:
            raise Farewell("hung_up", "the client has gone")
        self._heard = time.monotonic()
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
        # The answers may have taken long, and meanwhile we heard nothing.
        self._heard = time.monotonic()

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
            "settings": lambda frame: self._tell_settings(frame.header["names"]),
            "ping": lambda _: self._send("pong"),
        }
        if frame.type not in answers:
            raise Farewell("protocol", f"{frame.type} is no message of protocol {PROTOCOL}")
        try:
            answers[frame.type](frame)
        except BrokenPipeError:
            raise
        except (Refusal, OSError) as error:
            self._refuse(frame.header["batch"], error)

    def _greet(self, hello: Mapping[str, Any]) -> None:
        if hello["protocol"] != PROTOCOL:
            raise Farewell("protocol", f"this agent speaks protocol {PROTOCOL}")
        try:
            os.makedirs(self._options.store, exist_ok=True)
            self._show_life()  # Ends an agent that was frozen until now, and has no client left.
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
        self._batch = self._store.begin(
            number=int(header["batch"]),
            base=header["base"],
            target=header["target"],
            deleted=header["deleted"],
            entries=header["entries"],
        )
        self._send("need", batch=self._batch.number, digests=sorted(self._batch.needed))

    def _content(self, frame: Frame) -> None:
        if batch := self._current(frame):
            header = frame.header
            batch.receive(
                digest=str(header["digest"]), data=frame.payload, last=bool(header["last"])
            )

    def _commit(self, frame: Frame) -> None:
        batch = self._current(frame)
        if batch is None:
            return
        self._store.commit(batch)
        # In this order: the client knows the snapshot before the dag-processor's events name it.
        self._send("applied", batch=batch.number, tree=batch.target)
        self._poke()
        self._store.drop(batch)
        self._batch = None

    def _abort(self, _: Frame) -> None:
        if self._batch is not None:
            self._store.put_aside(self._batch)
            self._batch = None

    def _current(self, frame: Frame) -> Batch | None:
        """The batch of a frame; None if it was refused: the rest of it is ignored."""
        batch = self._batch
        return batch if batch is not None and frame.header["batch"] == batch.number else None

    def _refuse(self, number: int, error: Refusal | OSError) -> None:
        if self._batch is not None:
            self._store.drop(self._batch)
            self._batch = None
        refusal = error if isinstance(error, Refusal) else refusal_of(error)
        if refusal.code == "no_space":
            # The client tries again. Meanwhile all that nobody needs is removed, however few
            # snapshots there are. Without a dag-processor nobody knows what is needed: all stay.
            self._store.make_room()
            self._full = True
            self._ask_what_is_needed()
        self._send("refused", batch=number, code=refusal.code, message=str(refusal))

    def _show_life(self) -> None:
        if time.monotonic() - self._sent > self.SIGN_OF_LIFE:
            try:
                self._send("pong")
            except OSError:
                # The store calls this during its work, and must not report a fault of the disk.
                raise Farewell("hung_up", "the client has gone") from None

    def _send(self, kind: str, **values: Any) -> None:
        self._sent = time.monotonic()
        write_all(self._writer, encode({"type": kind, **values}))

    # the dag-processor

    def _poke(self) -> None:
        if self._store.tree is not None:
            self._processor.send({"type": "poke", "snapshot": self._store.tree})

    def _tell_settings(self, names: list[str]) -> None:
        """Tell the dag-processor, if it listens, which variables and connections have changed."""
        self._processor.send({"type": "settings", "names": names})

    def _hear_processor(self) -> None:
        for message in self._processor.receive():
            if self._asked and message.get("type") == "references":
                self._asked = False
                self._chore = self._collection(message)
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
