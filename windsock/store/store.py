"""The snapshot store.

The store::

    current            symlink → snapshots/<tree id>, replaced by rename
    snapshots/<id>/    immutable; unchanged files are hardlinks of the snapshot before
    manifests/<id>.json  {"version": 1, "entries": {path: [kind, mode, size, digest or target]}}
    incoming/          work in progress, swept at start; content of an interrupted batch stays
    lock               locked (flock) by the living agent; contains who that is, as JSON
    boot               the machine's boot id when the store was last known to be whole
    pycache/           Python's bytecode caches; we only remove what belongs to a removed snapshot

A snapshot is built in `incoming/` and renamed to its name. Then its manifest is written, then
`current` is replaced, both by rename. So `kill -9` at any point leaves `current` on a whole
snapshot, and the next start removes the rest. The next batch uses the content of an interrupted
one, after its digests were compared: after a cut a slow line goes on where it was.

Nothing is fsynced: that would cost more than everything else together, and only a crash of the
*machine* needs it. After one (the boot id differs) the next start reads the current snapshot,
compares every digest, and moves `current` to the newest snapshot that is whole; the client sends
the difference. An older snapshot is read the same way before it becomes current again.

An agent that lost the lock may be slow to notice. So the lock is checked before each change that
others see, and a folder is renamed before it is removed: an agent that still builds there finds
nothing, and not half of it.
"""

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


class Store:
    """The snapshots in one folder. The caller has the lock.

    Args:
        folder: Where the store is, or will be.
        write: Writes bytes to a file descriptor (`os.write`; tests can fill the disk).
        link: Makes a hard link (`os.link`; tests can refuse it).

    Attributes:
        tree: The id of the current snapshot's tree, if there is one.
        entries: Those of the current snapshot.
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
        self._link = link
        self._is_ours: Callable[[], bool] = lambda: True
        self._tick: Callable[[], None] = lambda: None
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
        """Make the folders, remove what a killed agent left, and find the current snapshot.

        Args:
            is_ours: Whether we still have the lock; asked before each change, from now on.
            tick: Called often, from now on, to show that we live.

        Raises:
            Refusal: Another agent has taken the store over.
            OSError: The folder cannot be used.
        """
        self._is_ours = is_ours
        self._tick = tick
        for name in ("snapshots", "manifests", "incoming"):
            os.makedirs(self.path(name), exist_ok=True)
        self._check_lock()
        self._sweep()
        boot = boot_id()
        thorough = not boot or text_of(self.path("boot")) != boot
        self._find_current(thorough=thorough)
        if thorough:
            # Without this file the next start reads every file again; nothing else depends on it.
            with contextlib.suppress(OSError):
                self._write_whole(self.path("boot"), boot.encode("ascii"))

    def _find_current(self, *, thorough: bool) -> None:
        """Make `current` the newest snapshot that is whole, or remove it.

        Further files in a snapshot do no harm here: a DAG may have written them, and the
        alternative is older code.
        """
        self._forget_current()
        linked = self._linked()
        trees = [tree for _, tree in self.snapshots()]
        for tree in sorted(trees, key=lambda tree: tree != linked):
            entries = self.manifest(tree)
            if entries is not None and self.verify(tree, entries, thorough=thorough, others=True):
                if linked != tree:
                    self._check_lock()
                    self._set_current(tree)
                self.tree, self.entries = tree, entries
                return
        self._check_lock()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("current"))

    def manifest(self, tree: str) -> dict[str, Row] | None:
        """The entries of a snapshot, or None if its manifest is missing or damaged."""
        try:
            values = json.loads(text_of(self._manifest_path(tree)))
            entries = checked_entries(values["entries"])
        except (ValueError, KeyError, TypeError, AttributeError, Refusal):
            return None
        return entries if identify(canonical(entries)) == tree else None

    def verify(
        self, tree: str, entries: Mapping[str, Row], *, thorough: bool, others: bool = False
    ) -> bool:
        """Whether a snapshot consists of these entries, or has them among `others`.

        Kinds, sizes, modes and targets of links are compared; `thorough` reads every file, too.
        """
        found = 0
        try:
            for path, item in walk(self.path("snapshots", tree)):
                self._tick()
                row = entries.get(path)
                if row is None:
                    if others:
                        continue
                    return False
                if not matches(item, row, thorough=thorough, tick=self._tick):
                    return False
                found += 1
        except (OSError, UnicodeDecodeError):
            return False
        return found == len(entries)

    # batches

    def begin(self, *, number: int, base: Any, target: Any, deleted: Any, entries: Any) -> Batch:
        """Check what a batch wants, and find what the client must send.

        Raises:
            Refusal: The batch does not fit the store, or is not safe to write.
            OSError: The store cannot be written.
        """
        if base is not None and self.tree == base and not self._exists(base):
            self._forget_current()
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
        batch = Batch(number=number, target=target, entries=wanted, text=text, write=self._write)
        batch.exists = self._has_whole(batch)
        if not batch.exists:
            batch.needed = batch.digests - {row[3] for row in self.entries.values()}
        if self._aside:
            aside, self._aside = self._aside, b""
            batch.adopt(aside, tick=self._tick)
        else:
            batch.folder = self._fresh("batch")
            os.mkdir(batch.folder)
        return batch

    def commit(self, batch: Batch) -> None:
        """Make the batch's tree the current one.

        Raises:
            Refusal: Content is missing, the current snapshot is damaged, or another agent has taken
                the store over.
            OSError: The disk is full, …
        """
        if not batch.complete:
            raise Refusal("out_of_order", "not all content has arrived")
        fresh = b"" if batch.exists else self._build(batch)
        self._check_lock()
        if batch.exists:
            self._touch_changed(batch)
        else:
            if self._exists(batch.target):  # It is damaged, or it would not be built anew.
                self._discard(self.path("snapshots", batch.target), shared=True)
            os.rename(fresh, self.path("snapshots", batch.target))
            text = f'{{"version":1,"entries":{batch.text}}}'
            self._write_whole(self._manifest_path(batch.target), text.encode("ascii"))
        self._check_lock()
        self._set_current(batch.target)
        if not self._is_ours():
            # We lost the lock between the check and the rename. The agent that took it made the
            # newest snapshot.
            self._set_current(self.snapshots()[0][1])
            self._check_lock()
        self.tree, self.entries = batch.target, batch.entries

    def _build(self, batch: Batch) -> bytes:
        builder = Builder(write=self._write, link=self._link, tick=self._tick)
        tree = self.tree or "none"
        made = _modified(self._manifest_path(tree), math.inf)
        try:
            return builder.build(batch, self.path("snapshots", tree), self.entries, made=made)
        except FileNotFoundError as error:
            self._forget_current()
            raise Refusal("base_mismatch", f"the current snapshot is damaged: {error}") from None

    def restore_current(self) -> bool:
        """Move `current` back if an agent that lost the lock has moved it.

        Returns:
            Whether it had been moved.
        """
        if self.tree is None or self._linked() == self.tree:
            return False
        self._set_current(self.tree)
        return True

    def drop(self, batch: Batch) -> None:
        """Remove the batch's folder."""
        batch.close()
        self._discard(batch.folder)

    def put_aside(self, batch: Batch) -> None:
        """End a batch early; the next one uses the content that has arrived."""
        batch.close()
        self._aside = batch.folder

    def make_room(self) -> None:
        """The disk is full: remove the content of an interrupted batch."""
        if self._aside:
            self._discard(self._aside)
            self._aside = b""

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
            maximum_bytes: Hard links count once; on a small volume it is less, see `Usage.limit`.
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
            if tree in referenced or since > born_before:
                continue
            if position < keep:
                spared.insert(0, tree)
            else:
                self._remove(tree, born_before=born_before)
                yield
        for tree in spared:
            if not (yield from self.too_large(maximum_bytes)):
                return
            self._remove(tree, born_before=born_before)
            yield

    def _remove(self, tree: str, *, born_before: float) -> None:
        """Remove a snapshot and Python's bytecode of it, unless it was made current meanwhile."""
        if tree == self.tree or not TREE_ID.fullmatch(tree):
            return
        self._check_lock()
        if _modified(self._manifest_path(tree)) > born_before:
            return
        # The manifest first: `_sweep` removes a snapshot without one.
        self._discard(self._manifest_path(tree), self.path("snapshots", tree), shared=True)
        for root in {self._folder, os.path.realpath(self._folder)}:
            cached = os.path.join(root, b"snapshots", tree.encode("ascii")).lstrip(b"/")
            shutil.rmtree(self.path("pycache", cached), ignore_errors=True)

    # inside

    def _check_lock(self) -> None:
        if not self._is_ours():
            raise Refusal("taken_over", "another agent has taken the store over")

    def _forget_current(self) -> None:
        """The current snapshot is damaged: let the client send it again, whole."""
        self.tree, self.entries = None, {}

    def _touch_changed(self, batch: Batch) -> None:
        """Give the files that change by going back to an older snapshot new mtimes.

        Airflow's stock dag-processor compares mtimes; our collection reads the manifest's.
        """
        for path, row in batch.entries.items():
            if row[0] == "file" and self.entries.get(path) != row:
                os.utime(join(self.path("snapshots", batch.target), path))
        os.utime(self._manifest_path(batch.target))

    def _has_whole(self, batch: Batch) -> bool:
        """Whether the batch's snapshot exists and is whole; a damaged one is built again."""
        if not self._exists(batch.target) or self.manifest(batch.target) is None:
            return False
        # A snapshot from before the start of the machine may have lost content in a crash.
        booted = _modified(self.path("boot"), math.inf)
        thorough = _modified(self._manifest_path(batch.target)) <= booted
        return self.verify(batch.target, batch.entries, thorough=thorough)

    def _exists(self, tree: str) -> bool:
        return os.path.isdir(self.path("snapshots", tree))

    def _set_current(self, tree: str) -> None:
        fresh = self._fresh("current")
        os.symlink(os.path.join(b"snapshots", tree.encode("ascii")), fresh)
        os.replace(fresh, self.path("current"))

    def _linked(self) -> str:
        """The tree id that `current` names; empty if it names none."""
        try:
            return os.fsdecode(os.path.basename(os.readlink(self.path("current"))))
        except OSError:
            return ""

    def _sweep(self) -> None:
        """Remove what other agents left, except the content of an interrupted batch."""
        self._aside = b""
        incoming = [self.path("incoming", name) for name in os.listdir(self.path("incoming"))]
        for place in sorted(incoming, key=_modified, reverse=True):
            if self._aside or not self._adopt(place):
                self._discard(place)
        listed = {os.fsencode(tree) for _, tree in self.snapshots()}
        for name in os.listdir(self.path("snapshots")):
            if name not in listed:
                self._check_lock()
                self._discard(self.path("snapshots", name), shared=True)
        for name in listed.difference(os.listdir(self.path("snapshots"))):
            self._discard(self._manifest_path(os.fsdecode(name)), shared=True)

    def _adopt(self, place: bytes) -> bool:
        """Put an interrupted batch with content aside; returns whether it was one."""
        if not os.path.basename(place).startswith(b"batch-"):
            return False
        aside = self._fresh("batch")
        try:
            content = map(os.fsdecode, os.listdir(place))
            if not any(DIGEST.fullmatch(each) for each in content):
                return False
            os.rename(place, aside)
        except OSError:  # The agent that made it still runs, and has just removed it.
            return False
        self._aside = aside
        return True

    def _discard(self, *places: bytes, shared: bool = False) -> None:
        """Remove files or folders; they disappear at once.

        If they are `shared`, another agent that has taken the lock meanwhile may need them: then
        they are put back.
        """
        moved: dict[bytes, bytes] = {}
        for place in places:
            moved[place] = self._fresh("trash")
            try:
                os.rename(place, moved[place])
            except FileNotFoundError:
                del moved[place]
            except OSError:  # On a full disk there may be no room for a name.
                moved[place] = place
        if shared and not self._is_ours():
            for place, trash in moved.items():
                with contextlib.suppress(OSError):
                    os.rename(trash, place)
            self._check_lock()
        for trash in moved.values():
            shutil.rmtree(trash, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(trash)

    def _fresh(self, kind: str) -> bytes:
        """An unused path in `incoming/`."""
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


def _modified(path: bytes, default: float = -math.inf) -> float:
    """When a file was last written, or the default if there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return default
