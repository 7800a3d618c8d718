"""The snapshot store.

The store::

    current            symlink → snapshots/<tree id>, replaced by rename
    snapshots/<id>/    immutable; unchanged files are hardlinks of the snapshot before
    manifests/<id>.json  {"version": 1, "entries": {path: [kind, mode, size, digest or target]}}
    incoming/          work in progress, swept at start
    lock               held (flock) by the living agent; holds who that is, as JSON
    boot               the machine's boot id when the store was last known to be whole
    pycache/           Python's bytecode caches; we only remove what belongs to a removed snapshot

What a crash can do. A snapshot is built in `incoming/`, renamed to its name, then its manifest is
written (also by rename), then `current` is replaced by rename. `kill -9` at any point thus leaves
`current` on a whole snapshot; the next start sweeps the rest. Nothing is fsynced: it would cost
more than everything else together, and only a crash of the *machine* could use it. After one (the
boot id differs) the next start reads the current snapshot and compares every digest, moves
`current` to the newest snapshot that is whole, and the client sends the difference.
"""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here, whatever the locale there; pathlib knows only text.
# ruff: noqa: PTH100, PTH101, PTH102, PTH103, PTH104, PTH105, PTH106, PTH108, PTH112, PTH115, PTH118, PTH119, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

from windsock.sync.entries import (
    TREE_ID,
    Refusal,
    Row,
    canonical,
    checked_entries,
    checked_path,
    content_digest,
    folders_of,
    identify,
)
from windsock.sync.files import (
    boot_id,
    check_links,
    join,
    make_folders,
    matches,
    text_of,
    walk,
    write_all,
)
from windsock.sync.wire import MAXIMUM_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

COPY_INSTEAD_OF_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
}


class Batch:
    """What one begin … commit has brought so far.

    Attributes:
        number: The client's number of it.
        target: The tree it leads to, with its `entries` and their canonical `text`.
        exists: The store has that snapshot already, so nothing needs to be sent or built.
        needed: Digests of content that has not arrived.
    """

    def __init__(self, *, number: int, target: str, entries: dict[str, Row], text: str) -> None:
        self.number = number
        self.target = target
        self.entries = entries
        self.text = text
        self.exists = False
        self.needed: set[str] = set()
        self.folder = b""
        self.started = time.monotonic()
        self._sizes = {row[3]: row[2] for row in entries.values() if row[0] == "file"}
        self._descriptor = -1
        self._digest = ""
        self._state = content_digest()
        self._size = 0

    @property
    def digests(self) -> set[str]:
        """The digests of all files in the tree."""
        return set(self._sizes)

    @property
    def complete(self) -> bool:
        """Whether all content has arrived."""
        return not self.needed and self._descriptor < 0

    def blob(self, digest: str) -> bytes:
        """Where content waits until it is put into the snapshot."""
        return os.path.join(self.folder, digest.encode("ascii"))

    def receive(
        self, *, digest: str, data: bytes, last: bool, write: Callable[[int, bytes], int]
    ) -> None:
        """Take a piece of content.

        Raises:
            Refusal: It was not asked for, or what came does not have the digest.
            OSError: The disk is full, …
        """
        if self._descriptor < 0:
            if digest not in self.needed:
                raise Refusal("out_of_order", f"nobody asked for {digest}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.blob(digest), flags, 0o600)
            self._digest, self._state, self._size = digest, content_digest(), 0
        if digest != self._digest:
            raise Refusal("out_of_order", f"{digest} came before the end of {self._digest}")
        write_all(self._descriptor, data, write=write)
        self._state.update(data)
        self._size += len(data)
        if last:
            self.close()
            if self._state.hexdigest() != digest or self._size != self._sizes[digest]:
                raise Refusal("digest_mismatch", f"content arrived that is not {digest}")
            self.needed.discard(digest)

    def close(self) -> None:
        """Close the file that is being received, if any."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Store:
    """The snapshots in one folder. The caller holds the lock.

    Args:
        folder: Where the store is, or will be.
        write: Writes bytes to a file descriptor (`os.write`; tests fill the disk here).
        link: Makes a hardlink (`os.link`; tests refuse it here).
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
        self._spare = b""
        self.tree: str | None = None
        self.entries: dict[str, Row] = {}

    def path(self, *parts: str | bytes) -> bytes:
        """A path inside the store."""
        return os.path.join(self._folder, *map(os.fsencode, parts))

    def open(self, *, tick: Callable[[], None] = lambda: None) -> None:
        """Make the folders, sweep what a killed agent left, make `current` sound.

        Args:
            tick: Called often, to show that we live.

        Raises:
            OSError: The folder cannot be used.
        """
        for name in ("snapshots", "manifests", "incoming"):
            os.makedirs(self.path(name), exist_ok=True)
        self._sweep()
        boot = boot_id()
        thorough = not boot or text_of(self.path("boot")) != boot
        self.forget()
        for tree in self._candidates():
            entries = self.manifest(tree)
            if entries is not None and self.verify(tree, entries, thorough=thorough, tick=tick):
                self.tree, self.entries = tree, entries
                if self._linked() != tree:
                    self._point(tree)
                break
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path("current"))
        with contextlib.suppress(
            OSError
        ):  # without it the next start reads every file, that is all
            self._write_whole(self.path("boot"), boot.encode("ascii"))

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
        tick: Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether a snapshot holds exactly its entries.

        Args:
            tree: The snapshot.
            entries: What it must hold.
            thorough: Read every file, instead of comparing kinds, sizes, modes and targets.
            tick: Called often.
        """
        found = 0
        try:
            for path, item in walk(self.path("snapshots", tree)):
                row = entries.get(path)
                if row is None or not matches(item, row, thorough=thorough):
                    return False
                found += 1
                tick()
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
        batch.folder = self.path("incoming", uuid.uuid4().hex)
        os.mkdir(batch.folder)
        return batch

    def receive(self, batch: Batch, *, digest: str, data: bytes, last: bool) -> None:
        """Take a piece of a batch's content; raises as `Batch.receive` does."""
        batch.receive(digest=digest, data=data, last=last, write=self._write)

    def commit(self, batch: Batch, *, tick: Callable[[], None], held: Callable[[], bool]) -> None:
        """Make the batch's tree the current one.

        Args:
            batch: All of whose content has arrived.
            tick: Called often, to show that we live.
            held: Asked right before `current` moves; False gives up.

        Raises:
            Refusal: Something is missing, or the base is not what its manifest says.
            OSError: The disk is full, …
        """
        if not batch.complete:
            raise Refusal("out_of_order", "not all content has arrived")
        if batch.exists:
            self._freshen(batch)
        else:
            try:
                fresh = self._build(batch, tick=tick)
            except FileNotFoundError as error:
                self.forget()
                raise Refusal(
                    "base_mismatch", f"the current snapshot is damaged: {error}"
                ) from None
            self._discard(self.path("snapshots", batch.target))
            os.rename(fresh, self.path("snapshots", batch.target))
            text = f'{{"version":1,"entries":{batch.text}}}'
            self._write_whole(self._manifest_path(batch.target), text.encode("ascii"))
        if not held():
            raise Refusal("taken_over", "another agent has taken the store over")
        self._point(batch.target)
        self.tree, self.entries = batch.target, batch.entries
        self._drop_spare()

    def drop(self, batch: Batch) -> None:
        """Remove what is left of a batch."""
        batch.close()
        shutil.rmtree(batch.folder, ignore_errors=True)

    def forget(self) -> None:
        """The current snapshot is not to be trusted: have it sent again, whole."""
        self.tree, self.entries = None, {}
        self._drop_spare()

    def prepare(self) -> Generator[None, None, None]:
        """Link the current snapshot's files into a spare folder, a hundred at each step.

        The next batch then only touches what it changes, instead of linking thousands of files
        while somebody waits. Anything that goes wrong here only means no spare.
        """
        if self._spare or self.tree is None:
            return
        tree, base = self.tree, self.path("snapshots", self.tree)
        spare = self.path("incoming", "spare-" + uuid.uuid4().hex)
        try:
            os.mkdir(spare)
            make_folders(spare, self.entries)
            for count, (path, row) in enumerate(self.entries.items(), start=1):
                self._place_unchanged(base, spare, path, row)
                if count % 100 == 0:
                    yield
                    if self.tree != tree:
                        break
            else:
                self._spare = spare
        except OSError:
            pass
        finally:
            if self._spare != spare:
                shutil.rmtree(spare, ignore_errors=True)

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

    def size(self) -> Iterator[int]:
        """The bytes on disk of all snapshots, hardlinks counted once; a running total."""
        union: dict[int, int] = {}
        for _, tree in self.snapshots():
            union.update(self._inodes(tree))
            yield sum(union.values())

    def collect(
        self, *, referenced: set[str], keep: int, minimum_age: float, maximum_bytes: int
    ) -> Generator[None, None, None]:
        """Remove snapshots that nobody needs, one at each step.

        Args:
            referenced: The snapshots that DAGs and unfinished runs point to.
            keep: How many of the newest stay, unless the store is too large.
            minimum_age: Seconds a snapshot stays in any case.
            maximum_bytes: When the store is larger, unreferenced ones go, the oldest first.
        """
        born_before = time.time() - minimum_age
        spared: list[str] = []
        for position, (since, tree) in enumerate(self.snapshots()):
            if tree in referenced or tree == self.tree or since > born_before:
                continue
            if position < keep:
                spared.insert(0, tree)
            else:
                self.remove(tree)
                yield
        if not spared:
            return
        inodes: dict[str, dict[int, int]] = {}
        for _, tree in self.snapshots():
            inodes[tree] = self._inodes(tree)
            yield
        for tree in spared:
            union: dict[int, int] = {}
            for sizes in inodes.values():
                union.update(sizes)
            if sum(union.values()) <= maximum_bytes:
                return
            self.remove(tree)
            del inodes[tree]
            yield

    def remove(self, tree: str) -> None:
        """Remove a snapshot that is not current, and Python's bytecode of it."""
        if tree == self.tree or not TREE_ID.fullmatch(tree):
            return
        self._discard(self.path("snapshots", tree))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._manifest_path(tree))
        for root in {self._folder, os.path.realpath(self._folder)}:
            cached = os.path.join(root, b"snapshots", tree.encode("ascii")).lstrip(b"/")
            shutil.rmtree(self.path("pycache", cached), ignore_errors=True)

    # inside

    def _build(self, batch: Batch, *, tick: Callable[[], None]) -> bytes:
        """The new snapshot, whole, still in `incoming`."""
        base = self.path("snapshots", self.tree or "none")
        fresh = os.path.join(batch.folder, b"tree")
        changed = {
            path: row for path, row in batch.entries.items() if self.entries.get(path) != row
        }
        if self._spare:
            os.rename(self._spare, fresh)
            self._spare = b""
            self._clear(fresh, batch, changed)
            make_folders(fresh, changed)
        else:
            os.mkdir(fresh)
            make_folders(fresh, batch.entries)
            for path, row in batch.entries.items():
                if path not in changed:
                    self._place_unchanged(base, fresh, path, row)
                    tick()
        self._place_changed(batch, base, fresh, changed, tick=tick)
        check_links(fresh, batch.entries)
        return fresh

    def _clear(self, fresh: bytes, batch: Batch, changed: Mapping[str, Row]) -> None:
        """Take out of a spare what does not belong to the new tree."""
        gone = [path for path in self.entries if path not in batch.entries]
        for path in gone:
            os.unlink(join(fresh, path))
        for path in changed:
            if path in self.entries:
                os.unlink(join(fresh, path))
        for folder in sorted(folders_of(gone) - folders_of(batch.entries), reverse=True):
            os.rmdir(join(fresh, folder))

    def _place_unchanged(self, base: bytes, fresh: bytes, path: str, row: Row) -> None:
        if row[0] == "link":
            os.symlink(row[3].encode("utf-8"), join(fresh, path))
            return
        try:
            self._link(join(base, path), join(fresh, path))
        except OSError as error:
            if error.errno not in COPY_INSTEAD_OF_LINK:
                raise
            self._copy(join(base, path), join(fresh, path), mode=row[1])
            shutil.copystat(join(base, path), join(fresh, path))

    def _place_changed(
        self,
        batch: Batch,
        base: bytes,
        fresh: bytes,
        changed: Mapping[str, Row],
        *,
        tick: Callable[[], None],
    ) -> None:
        """Put what has new content, another mode or another name into place; its mtime is now.

        Known content is copied, never linked: mode and mtime belong to the inode.
        """
        known = {row[3]: join(base, path) for path, row in self.entries.items() if row[0] == "file"}
        for path, (kind, mode, _, value) in changed.items():
            end = join(fresh, path)
            if kind == "link":
                os.symlink(value.encode("utf-8"), end)
            elif value in known:
                self._copy(known[value], end, mode=mode)
            else:
                os.rename(batch.blob(value), end)
                os.chmod(end, mode)
                known[value] = end
            tick()

    def _copy(self, source: bytes, end: bytes, *, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(source, "rb") as file:
            descriptor = os.open(end, flags, 0o600)
            try:
                while data := file.read(MAXIMUM_PAYLOAD):
                    write_all(descriptor, data, write=self._write)
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)

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
        return self.verify(batch.target, batch.entries, tick=tick)

    def _stands(self, tree: str) -> bool:
        return os.path.isdir(self.path("snapshots", tree))

    def _point(self, tree: str) -> None:
        fresh = self.path("incoming", "current-" + uuid.uuid4().hex)
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
        for name in os.listdir(self.path("incoming")):
            shutil.rmtree(self.path("incoming", name), ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(self.path("incoming", name))
        listed = {os.fsencode(tree) for _, tree in self.snapshots()}
        for name in os.listdir(self.path("snapshots")):
            if name not in listed:
                self._discard(self.path("snapshots", name))
        for name in listed.difference(os.listdir(self.path("snapshots"))):
            os.unlink(self._manifest_path(os.fsdecode(name)))

    def _discard(self, folder: bytes) -> None:
        """Remove a folder of snapshots/; it disappears at once."""
        trash = self.path("incoming", "trash-" + uuid.uuid4().hex)
        try:
            os.rename(folder, trash)
        except FileNotFoundError:
            return
        shutil.rmtree(trash, ignore_errors=True)

    def _drop_spare(self) -> None:
        if self._spare:
            shutil.rmtree(self._spare, ignore_errors=True)
            self._spare = b""

    def _manifest_path(self, tree: str) -> bytes:
        return self.path("manifests", tree + ".json")

    def _write_whole(self, path: bytes, data: bytes) -> None:
        fresh = self.path("incoming", "text-" + uuid.uuid4().hex)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, data, write=self._write)
        except OSError:
            os.unlink(fresh)
            raise
        finally:
            os.close(descriptor)
        os.replace(fresh, path)

    def _inodes(self, tree: str) -> dict[int, int]:
        """Inode → bytes on disk, of one snapshot."""
        sizes: dict[int, int] = {}
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for _, item in walk(self.path("snapshots", tree)):
                status = item.stat(follow_symlinks=False)
                sizes[status.st_ino] = status.st_blocks * 512
        return sizes
