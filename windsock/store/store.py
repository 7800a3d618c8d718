"""The snapshot store.

The store::

    current            symlink → snapshots/<tree id>, replaced by rename
    snapshots/<id>/    immutable; unchanged files are hardlinks of the snapshot before
    manifests/<id>.json  {"version": 1, "entries": {path: [kind, mode, size, digest or target]}}
    incoming/          work in progress, swept at start; content of an interrupted batch stays
    lock               locked (flock) by the living agent; contains who that is, as JSON
    boot               the machine's boot id when the store was last known to be whole
    pycache/           Python's bytecode caches; we only remove what belongs to a removed snapshot

What a crash can do. A snapshot is built in `incoming/`, renamed to its name, then its manifest is
written (also by rename), then `current` is replaced by rename. `kill -9` at any point thus leaves
`current` on a whole snapshot; the next start sweeps the rest. What has arrived of a batch serves
the next one, after a look at its digests: a slow line that breaks goes on where it was.

Nothing is fsynced: it would cost more than everything else together, and only a crash of the
*machine* could use it. After one (the boot id differs) the next start reads the current snapshot
and compares every digest, moves `current` to the newest snapshot that is whole, and the client
sends the difference. An older snapshot is read the same way before it becomes current again.

An agent that was taken over may be slow to notice. So the lock is asked before anything that
others see is changed, and what an agent works on is renamed before it is swept: whoever still
builds there finds nothing, not half of it.
"""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here, whatever the locale there; pathlib knows only text.
# ruff: noqa: PTH100, PTH102, PTH103, PTH104, PTH105, PTH108, PTH112, PTH115, PTH116, PTH118, PTH119, PTH208, PTH211

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

from windsock.store.batch import Batch
from windsock.store.building import Builder
from windsock.store.entries import (
    DIGEST,
    TREE_ID,
    Refusal,
    Row,
    canonical,
    checked_entries,
    checked_path,
    folders_of,
    identify,
)
from windsock.store.files import boot_id, join, matches, text_of, walk, write_all
from windsock.store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

KEPT_SECONDS = 24 * 3600.0
"""How long the content of an interrupted batch waits for another one."""


class Store:
    """The snapshots in one folder. The caller has the lock.

    Args:
        folder: Where the store is, or will be.
        write: Writes bytes to a file descriptor (`os.write`; tests can fill the disk).
        link: Makes a hardlink (`os.link`; tests can refuse it).
    """

    def __init__(
        self,
        folder: str,
        *,
        write: Callable[[int, bytes], int] = os.write,
        link: Callable[[bytes, bytes], None] = os.link,
    ) -> None:
        self._folder = os.fsencode(os.path.abspath(folder))
        self._write = write
        self._is_ours: Callable[[], bool] = lambda: True
        self._builder = Builder(self._folder, write=write, link=link)
        self._usage = Usage(self.path("snapshots"))
        self._aside = b""
        self.tree: str | None = None
        self.entries: dict[str, Row] = {}

    def path(self, *parts: str | bytes) -> bytes:
        """A path inside the store."""
        return os.path.join(self._folder, *map(os.fsencode, parts))

    def open(
        self,
        *,
        is_ours: Callable[[], bool] = lambda: True,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the folders, sweep what a killed agent left, make `current` sound.

        Args:
            is_ours: Whether we still have the lock; asked before each change, from now on.
            tick: Called often, to show that we live.

        Raises:
            Refusal: Another agent has taken the store over.
            OSError: The folder cannot be used.
        """
        self._is_ours = is_ours
        for name in ("snapshots", "manifests", "incoming"):
            os.makedirs(self.path(name), exist_ok=True)
        self._insist()
        self._sweep()
        boot = boot_id()
        thorough = not boot or text_of(self.path("boot")) != boot
        self._find_current(thorough=thorough, tick=tick)
        if thorough:
            # Without it the next start reads every file again, that is all.
            with contextlib.suppress(OSError):
                self._write_whole(self.path("boot"), boot.encode("ascii"))

    def _find_current(self, *, thorough: bool, tick: Callable[[], None]) -> None:
        """Make `current` the newest snapshot that is whole, or nothing.

        A further file in a snapshot does not make it unsound now: a DAG may have
        written it, and older code would run instead.
        """
        self.forget()
        for tree in self._candidates():
            entries = self.manifest(tree)
            if entries is not None and self.verify(
                tree, entries, thorough=thorough, others=True, tick=tick
            ):
                if self._linked() != tree:
                    self._insist()
                    self._point(tree)
                self.tree, self.entries = tree, entries
                return
        self._insist()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("current"))

    def manifest(self, tree: str) -> dict[str, Row] | None:
        """The entries of a snapshot, or None if its manifest is missing or not its own."""
        try:
            values = json.loads(text_of(self._manifest_path(tree)))
            entries = checked_entries(values["entries"])
        except (ValueError, KeyError, TypeError, AttributeError, Refusal):
            return None
        return entries if identify(canonical(entries)) == tree else None

    def verify(
        self,
        tree: str,
        entries: Mapping[str, Row],
        *,
        thorough: bool = False,
        others: bool = False,
        tick: Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether a snapshot consists of its entries, and nothing else.

        Args:
            tree: The snapshot.
            entries: What it must contain.
            thorough: Read every file, instead of comparing kinds, sizes, modes and targets.
            others: Something else may lie there as well.
            tick: Called often.
        """
        found = 0
        try:
            for path, item in walk(self.path("snapshots", tree)):
                tick()
                row = entries.get(path)
                if row is None:
                    if others:
                        continue
                    return False
                if not matches(item, row, thorough=thorough, tick=tick):
                    return False
                found += 1
        except (OSError, UnicodeDecodeError):
            return False
        return found == len(entries)

    # batches

    def begin(
        self,
        *,
        number: int,
        base: Any,
        target: Any,
        deleted: Any,
        entries: Any,
        tick: Callable[[], None] = lambda: None,
    ) -> Batch:
        """Check what a batch wants, and find what it must send.

        Raises:
            Refusal: It does not fit the store, or is not safe to write.
            OSError: The store cannot be written.
        """
        if base is not None and self.tree == base and not self._stands(base):
            self.forget()
        if base != self.tree:
            raise Refusal("base_mismatch", f"the store is at {self.tree}, not at {base}")
        if not (isinstance(entries, dict) and isinstance(deleted, list)):
            raise Refusal("bad_tree", "the batch is malformed")
        wanted = dict(self.entries)
        for path in deleted:
            wanted.pop(checked_path(path), None)
        wanted.update(checked_entries(entries))
        clash = folders_of(wanted).intersection(wanted)
        if clash:
            raise Refusal("bad_tree", f"{min(clash)!r} is both a file and a folder")
        text = canonical(wanted)
        if identify(text) != target:
            raise Refusal("bad_tree", "the entries do not make the promised tree")
        batch = Batch(number=number, target=target, entries=wanted, text=text)
        batch.exists = self._holds(batch, tick=tick)
        if not batch.exists:
            batch.needed = batch.digests - {row[3] for row in self.entries.values()}
        if self._aside:
            batch.folder, self._aside = self._aside, b""
            batch.keep_what_fits(tick=tick)
        else:
            batch.folder = self._fresh("batch")
            os.mkdir(batch.folder)
        return batch

    def receive(self, batch: Batch, *, digest: str, data: bytes, last: bool) -> None:
        """Take a piece of a batch's content; raises as `Batch.receive` does."""
        batch.receive(digest=digest, data=data, last=last, write=self._write)

    def commit(self, batch: Batch, *, tick: Callable[[], None]) -> None:
        """Make the batch's tree the current one.

        Args:
            batch: All of whose content has arrived.
            tick: Called often, to show that we live.

        Raises:
            Refusal: Something is missing, or the base is not what its manifest says, or another
                agent has taken the store over.
            OSError: The disk is full, …
        """
        if not batch.complete:
            raise Refusal("out_of_order", "not all content has arrived")
        fresh = b"" if batch.exists else self._build(batch, tick=tick)
        self._insist()
        if batch.exists:
            self._freshen(batch)
        else:
            if self._stands(batch.target):  # Damaged, or it would not be built anew.
                self._discard(self.path("snapshots", batch.target))
            os.rename(fresh, self.path("snapshots", batch.target))
            text = f'{{"version":1,"entries":{batch.text}}}'
            self._write_whole(self._manifest_path(batch.target), text.encode("ascii"))
        self._insist()
        self._point(batch.target)
        if not self._is_ours():
            # The lock went between the look at it and the move: who has it now was here last.
            self._point(self.snapshots()[0][1])
            self._insist()
        self.tree, self.entries = batch.target, batch.entries

    def _build(self, batch: Batch, *, tick: Callable[[], None]) -> bytes:
        try:
            return self._builder.build(batch, tree=self.tree, entries=self.entries, tick=tick)
        except FileNotFoundError as error:
            self.forget()
            raise Refusal("base_mismatch", f"the current snapshot is damaged: {error}") from None

    def keep_current(self) -> bool:
        """Move `current` back if a rival moved it in the moment in which it lost the lock.

        Returns:
            Whether it had been moved.
        """
        if self.tree is None or self._linked() == self.tree:
            return False
        self._point(self.tree)
        return True

    def drop(self, batch: Batch) -> None:
        """Remove what is left of a batch."""
        batch.close()
        self._discard(batch.folder)

    def put_aside(self, batch: Batch) -> None:
        """Keep what has arrived of a batch that will not end, for the next one."""
        batch.close()
        self._aside = batch.folder

    def make_room(self) -> None:
        """The disk is full: remove what is only there to be quicker next time."""
        if self._aside:
            self._discard(self._aside)
            self._aside = b""

    def forget(self) -> None:
        """The current snapshot is not to be trusted: have it sent again, whole."""
        self.tree, self.entries = None, {}

    # collection

    def snapshots(self) -> list[tuple[float, str]]:
        """All snapshots with the time they were last made current, the newest first."""
        found = []
        with os.scandir(self.path("manifests")) as items:
            for item in items:
                name = os.fsdecode(item.name)
                with contextlib.suppress(FileNotFoundError):
                    if name.endswith(".json"):
                        found.append((item.stat().st_mtime, name.removesuffix(".json")))
        return sorted(found, reverse=True)

    def too_large(self, maximum_bytes: int) -> Generator[None, None, bool]:
        """Whether all snapshots together take more than they may; a little at each step.

        Args:
            maximum_bytes: Hardlinks count once; on a small volume it is less, see `Usage.limit`.
        """
        trees = [tree for _, tree in self.snapshots()]
        yield from self._usage.look(trees)
        return self._usage.bytes_of(trees) > self._usage.limit(maximum_bytes)

    def collect(
        self, *, referenced: set[str], keep: int, minimum_age: float, maximum_bytes: int
    ) -> Generator[None, None, None]:
        """Remove snapshots that nobody needs, one at each step.

        Args:
            referenced: The snapshots that DAGs and unfinished runs point to.
            keep: How many of the newest stay, unless the store is too large.
            minimum_age: Seconds a snapshot stays in any case.
            maximum_bytes: When the store is larger, unreferenced ones go, the oldest first; see
                `too_large`.

        Raises:
            Refusal: Another agent has taken the store over.
        """
        born_before = time.time() - minimum_age
        spared: list[str] = []
        for position, (since, tree) in enumerate(self.snapshots()):
            if tree in referenced or tree == self.tree or since > born_before:
                continue
            if position < keep:
                spared.insert(0, tree)
            else:
                self.remove(tree, born_before=born_before)
                yield
        for tree in spared:
            if not (yield from self.too_large(maximum_bytes)):
                return
            self.remove(tree, born_before=born_before)
            yield

    def remove(self, tree: str, *, born_before: float = math.inf) -> None:
        """Remove a snapshot that is not current, and Python's bytecode of it.

        Args:
            tree: The snapshot.
            born_before: Seconds of the wall clock: one that was made current since then stays.

        Raises:
            Refusal: Another agent has taken the store over.
        """
        if tree == self.tree or not TREE_ID.fullmatch(tree):
            return
        self._insist()
        if self._since(tree) > born_before:
            return
        # In this order: what has no manifest is swept, and a full disk may refuse a rename.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._manifest_path(tree))
        self._discard(self.path("snapshots", tree))
        for root in {self._folder, os.path.realpath(self._folder)}:
            cached = os.path.join(root, b"snapshots", tree.encode("ascii")).lstrip(b"/")
            shutil.rmtree(self.path("pycache", cached), ignore_errors=True)

    # inside

    def _insist(self) -> None:
        """Give up if the lock is another agent's by now."""
        if not self._is_ours():
            raise Refusal("taken_over", "another agent has taken the store over")

    def _freshen(self, batch: Batch) -> None:
        """Let what changes by going back to an older snapshot look changed.

        Airflow's stock dag-processor compares mtimes; our collection asks for the manifest's.
        """
        for path, row in batch.entries.items():
            if row[0] == "file" and self.entries.get(path) != row:
                os.utime(join(self.path("snapshots", batch.target), path))
        os.utime(self._manifest_path(batch.target))

    def _holds(self, batch: Batch, *, tick: Callable[[], None]) -> bool:
        """Whether the snapshot is there, whole; a damaged one is built again."""
        if not self._stands(batch.target) or self.manifest(batch.target) is None:
            return False
        # One that was not written since the machine started may have lost content by a crash.
        thorough = self._since(batch.target) <= _modified(self.path("boot"), default=math.inf)
        return self.verify(batch.target, batch.entries, thorough=thorough, tick=tick)

    def _since(self, tree: str) -> float:
        """When a snapshot was last made current, in seconds of the wall clock."""
        return _modified(self._manifest_path(tree), default=-math.inf)

    def _stands(self, tree: str) -> bool:
        return os.path.isdir(self.path("snapshots", tree))

    def _point(self, tree: str) -> None:
        fresh = self._fresh("current")
        os.symlink(os.path.join(b"snapshots", tree.encode("ascii")), fresh)
        os.replace(fresh, self.path("current"))

    def _linked(self) -> str:
        try:
            return os.fsdecode(os.path.basename(os.readlink(self.path("current"))))
        except OSError:
            return ""

    def _candidates(self) -> list[str]:
        """Snapshots that may become current: the linked one, then the newest."""
        trees = [tree for _, tree in self.snapshots()]
        linked = self._linked()
        return [*([linked] if linked in trees else []), *(tree for tree in trees if tree != linked)]

    def _sweep(self) -> None:
        """Remove what is left of others' work, but for the content of an interrupted batch."""
        self._aside = b""
        for name in sorted(os.listdir(self.path("incoming")), key=self._age):
            if self._aside or not self._keep(name):
                self._discard(self.path("incoming", name))
        listed = {os.fsencode(tree) for _, tree in self.snapshots()}
        for name in os.listdir(self.path("snapshots")):
            if name not in listed:
                self._insist()
                self._discard(self.path("snapshots", name))
        for name in listed.difference(os.listdir(self.path("snapshots"))):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._manifest_path(os.fsdecode(name)))

    def _age(self, name: bytes) -> float:
        """Seconds since something of `incoming/` was changed."""
        return time.time() - _modified(self.path("incoming", name), default=-math.inf)

    def _keep(self, name: bytes) -> bool:
        """Put an interrupted batch aside; whether it is one, of late, with something in it."""
        if not name.startswith(b"batch-") or self._age(name) > KEPT_SECONDS:
            return False
        place, aside = self.path("incoming", name), self._fresh("batch")
        try:
            content = map(os.fsdecode, os.listdir(place))
            if not any(DIGEST.fullmatch(each) for each in content):
                return False
            os.rename(place, aside)
        except OSError:  # whoever made it is still there, and ends now
            return False
        self._aside = aside
        return True

    def _discard(self, place: bytes) -> None:
        """Remove a folder, or what else lies there; it disappears at once."""
        trash = self._fresh("trash")
        try:
            os.rename(place, trash)
        except FileNotFoundError:
            return
        except OSError:  # there is not even room for a name
            trash = place
        shutil.rmtree(trash, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(trash)

    def _fresh(self, kind: str) -> bytes:
        """A name in `incoming/` that nothing has."""
        return self.path("incoming", f"{kind}-{uuid.uuid4().hex}")

    def _manifest_path(self, tree: str) -> bytes:
        return self.path("manifests", tree + ".json")

    def _write_whole(self, path: bytes, data: bytes) -> None:
        fresh = self._fresh("text")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, data, write=self._write)
        except OSError:
            os.unlink(fresh)
            raise
        finally:
            os.close(descriptor)
        os.replace(fresh, path)


def _modified(path: bytes, *, default: float) -> float:
    """When a file was last written, or the default if there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return default
