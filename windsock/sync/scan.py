"""The tree of a folder: what is in it, by content, never by time.

Files and symbolic links travel, with their permission bits. Empty folders do not, as in git, and
neither do a file's owner or times. Names are compared byte by byte: two that differ only in case
or in Unicode normalisation are two files.
"""

# The names of files are bytes, whatever the locale is; pathlib knows only text.
# ruff: noqa: PTH100, PTH115, PTH117, PTH120

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from windsock.store.entries import (
    Row,
    canonical,
    content_digest,
    identify,
    link_stays_inside,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from windsock.sync.rules import Rules

CHUNK = 256 * 1024
COARSE = 50_000_000
"""Nanoseconds between two changes that may get the same time from the kernel."""
VERY_COARSE = 2_000_000_000
"""The same for file systems that count seconds."""
ATTEMPTS = 3
"""How often a file that changes while it is read is read again at once."""
KEPT_TOTAL = 8 * 1024 * 1024
"""A scan passes on the content of small files up to this many bytes in all, so that the upload need
not read them."""

OUTSIDE = "it is a link that leads outside the folder"
OUTSIDE_HINT = (
    OUTSIDE + ", to {}: put a copy here, or sync the folder of that as well (`sync.folders` in "
    "invoke.yaml)"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or symbolic link.

    Attributes:
        kind: "file" or "link".
        mode: Permission bits (0 for a link, which has none of its own).
        size: In bytes (0 for a link).
        value: A file's digest (40 hex digits), or a link's target.
    """

    kind: str
    mode: int
    size: int
    value: str

    @property
    def row(self) -> Row:
        """The form of the wire and of the manifests."""
        return self.kind, self.mode, self.size, self.value


class Tree:
    """An immutable mapping of relative paths (with `/`) to entries."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = dict(entries)
        self._id = ""

    @classmethod
    def from_rows(cls, rows: Mapping[str, Row]) -> Tree:
        """The tree that a manifest describes."""
        return cls({path: Entry(*row) for path, row in rows.items()})

    @property
    def id(self) -> str:
        """32 hex digits over all paths and entries, whatever their order."""
        if not self._id:
            self._id = identify(canonical({path: e.row for path, e in self.entries.items()}))
        return self._id

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Tree {self.id[:12]} of {len(self)}>"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What leads from one tree to another; paths are sorted."""

    added: tuple[str, ...]
    modified: tuple[str, ...]
    deleted: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths."""
        return self.added + self.modified + self.deleted

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.deleted)


def difference(old: Tree, new: Tree) -> Difference:
    """What must be added, modified and deleted to make `new` of `old`."""
    before, after = old.entries, new.entries
    return Difference(
        added=tuple(sorted(path for path in after if path not in before)),
        modified=tuple(
            sorted(path for path, e in after.items() if path in before and before[path] != e)
        ),
        deleted=tuple(sorted(path for path in before if path not in after)),
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that is not synced, and why; for the terminal."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Known:
    """A file that the next scan need not read if its signature is the same.

    Attributes:
        signature: See `signature`.
        entry: What was found.
        settled: Whether every later change of the file changes its signature.
    """

    signature: tuple[int, ...]
    entry: Entry
    settled: bool


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What is in a folder.

    Attributes:
        tree: Its files and links.
        problems: What is not in the tree, and why.
        unsettled: Files that changed each time they were read. The tree has their entries of the
            previous scan, if there are any.
        unread: Files and folders that could not be read: what is in them is not known.
        missing: Why the folder cannot be read; empty if it can. The tree is empty then.
        links: There are symbolic links; a link is in the tree only if its end is in the folder.
        index: For the next scan.
        contents: Digest → content of small files that were read.
    """

    tree: Tree
    problems: tuple[Problem, ...] = ()
    unsettled: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    missing: str = ""
    links: bool = False
    index: Mapping[str, Known] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)


NOTHING = Scan(tree=Tree({}))


class Unsettled(Exception):
    """A file changed each time it was read."""


def scan(
    root: bytes | str | os.PathLike[str],
    rules: Rules,
    previous: Scan = NOTHING,
    *,
    only: Collection[str] | None = None,
    elsewhere: Callable[[str, bytes], str] = lambda _path, _place: "",
    now: Callable[[], int] = time.time_ns,
) -> Scan:
    """Find out what is in a folder. Raises nothing: what cannot be read is a problem.

    Args:
        root: The folder.
        rules: What is ignored, without a problem.
        previous: The previous scan; files with the same signature are not read again.
        only: The files that may have changed since then, if that is known. It is a shortcut: where
            it might lead to another result, everything is scanned.
        elsewhere: Makes the target of a link's path in this folder and of the place outside the
            folder that it leads to; empty if that is not synced.
        now: The wall clock, in nanoseconds.
    """

    def scanner() -> _Scanner:
        return _Scanner(os.fsencode(root), rules, previous, elsewhere, now)

    if only is not None and not (previous is NOTHING or previous.missing or previous.links):
        found = scanner().look_again(previous.unsettled.union(previous.unread, only))
        if found is not None:
            return found
    return scanner().scan()


class _Scanner:
    def __init__(
        self,
        root: bytes,
        rules: Rules,
        previous: Scan,
        elsewhere: Callable[[str, bytes], str],
        now: Callable[[], int],
    ) -> None:
        self._root = root
        self._rules = rules
        self._previous = previous
        self._elsewhere = elsewhere
        self._now = now
        self._entries: dict[str, Entry] = {}
        self._problems: list[Problem] = []
        self._unsettled: set[str] = set()
        self._unread: set[str] = set()
        self._links = False
        self._index: dict[str, Known] = {}
        self._contents: dict[str, bytes] = {}
        self._room = KEPT_TOTAL

    def scan(self) -> Scan:
        try:
            self._real = os.path.realpath(self._root, strict=True)
            with os.scandir(self._real):
                pass
        except OSError as error:
            return Scan(tree=NOTHING.tree, missing=error.strerror or str(error))
        folders = [(self._root, "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                with os.scandir(folder) as items:
                    for item in items:
                        self._look(item, prefix, folders)
            except OSError as error:
                self._blame(prefix.rstrip("/"), error)
        return self._result()

    def look_again(self, paths: Collection[str]) -> Scan | None:
        """The previous scan with these files read again; None if everything must be scanned."""
        if "" in paths:
            return None  # The folder itself could not be read.
        self._entries = dict(self._previous.tree.entries)
        self._index = dict(self._previous.index)
        self._problems = [each for each in self._previous.problems if each.path not in paths]
        names: dict[str, set[bytes]] = {}
        for path in paths:
            self._entries.pop(path, None)
            self._index.pop(path, None)
            folder, _, name = path.rpartition("/")
            names.setdefault(folder, set()).add(name.encode("utf-8"))
        folders: list[tuple[bytes, str]] = []
        try:
            self._real = os.path.realpath(self._root, strict=True)
            for folder, wanted in names.items():
                place = (self._real + b"/" + folder.encode("utf-8")).rstrip(b"/")
                if os.path.realpath(place, strict=True) != place:
                    return None  # The folder has become a link.
                with os.scandir(place) as items:
                    for item in items:
                        if item.name in wanted:
                            self._look(item, folder + "/" if folder else "", folders)
        except OSError:
            return None
        return None if folders or self._links else self._result()

    def _result(self) -> Scan:
        tree = Tree(self._entries)
        if tree == self._previous.tree:
            tree = self._previous.tree  # It may know its id already.
        return Scan(
            tree=tree,
            problems=tuple(sorted(self._problems, key=lambda problem: problem.path)),
            unsettled=frozenset(self._unsettled),
            unread=frozenset(self._unread),
            links=self._links,
            index=self._index,
            contents=self._contents,
        )

    def _look(
        self, item: os.DirEntry[bytes], prefix: str, folders: list[tuple[bytes, str]]
    ) -> None:
        try:
            path = prefix + item.name.decode("utf-8")
        except UnicodeDecodeError:
            shown = prefix + item.name.decode("utf-8", "backslashreplace")
            self._problems.append(Problem(shown, "its name is not UTF-8"))
            return
        try:
            is_directory = item.is_dir(follow_symlinks=False)
            if self._rules.ignores(path, is_directory=is_directory):
                return
            if is_directory:
                folders.append((item.path, path + "/"))
            elif item.is_symlink():
                self._look_at_link(item, path)
            elif item.is_file(follow_symlinks=False):
                self._look_at_file(item, path)
            else:
                self._problems.append(Problem(path, "it is no file: a socket, FIFO or device"))
        except FileNotFoundError:
            pass  # It was removed after the folder was listed.
        except OSError as error:
            self._blame(path, error)

    def _blame(self, path: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return
        reason = f"it cannot be read: {error.strerror or error}"
        self._problems.append(Problem(path or ".", reason))
        if not isinstance(error, NotADirectoryError):
            self._unread.add(path)

    def _look_at_file(self, item: os.DirEntry[bytes], path: str) -> None:
        status = item.stat(follow_symlinks=False)
        known = self._previous.index.get(path)
        if known is not None and known.settled and known.signature == signature(status):
            self._index[path] = known
            self._entries[path] = known.entry
            return
        try:
            known = self._read(item.path)
        except Unsettled:
            self._unsettled.add(path)
            before = self._previous.tree.entries.get(path)
            if before is not None:
                self._entries[path] = before
            return
        self._index[path] = known
        self._entries[path] = known.entry

    def _read(self, path: bytes) -> Known:
        # Since the folder was listed, it may have become a link or a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for _ in range(ATTEMPTS):
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise Unsettled
                moment = self._now()
                digest, content = _hash(descriptor, before.st_size)
                if signature(os.fstat(descriptor)) == signature(before):
                    entry = Entry("file", before.st_mode & 0o777, before.st_size, digest)
                    if len(content) == entry.size <= self._room:
                        self._room -= entry.size
                        self._contents[digest] = content
                    return Known(signature(before), entry, _is_settled(before, moment))
        finally:
            os.close(descriptor)
        raise Unsettled

    def _look_at_link(self, item: os.DirEntry[bytes], path: str) -> None:
        self._links = True
        try:
            target = os.readlink(item.path).decode("utf-8")
        except UnicodeDecodeError:
            self._problems.append(Problem(path, "its target is not UTF-8"))
            return
        if os.path.isabs(target):
            target = self._relative(target, path)
        reason = self._objection(item.path, path, target)
        if reason == OUTSIDE:
            place = os.path.realpath(item.path)
            target = self._elsewhere(path, place) if os.path.lexists(place) else ""
            reason = (
                "" if target else OUTSIDE_HINT.format(place.decode("utf-8", "backslashreplace"))
            )
        if reason:
            self._problems.append(Problem(path, reason))
        else:
            self._entries[path] = Entry("link", 0, 0, target)

    def _relative(self, target: str, path: str) -> str:
        """An absolute target inside the folder, as seen from the link; "" if it is outside."""
        for root in (os.path.abspath(self._root), self._real):
            inside = os.path.relpath(os.fsencode(target), root).decode("utf-8")
            if inside != ".." and not inside.startswith("../"):
                return posixpath.relpath(inside, posixpath.dirname(path) or ".")
        return ""

    def _objection(self, place: bytes, path: str, target: str) -> str:
        """Why a link is not synced; empty if it is."""
        if not link_stays_inside(path, target):
            return OUTSIDE
        try:
            real = os.path.realpath(place, strict=True)
        except FileNotFoundError:
            real = os.path.realpath(place)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "it is a link that leads to itself"
            raise
        if real != self._real and not real.startswith(self._real + b"/"):
            return OUTSIDE
        if (os.path.realpath(os.path.dirname(place)) + b"/").startswith(real + b"/"):
            # Airflow refuses a folder that contains itself.
            return "it is a link to a folder above it"
        return ""


def _hash(descriptor: int, size: int) -> tuple[str, bytes]:
    """The digest of a file's first `size` bytes, and its last piece: all of a small file."""
    state, place, data = content_digest(), 0, b""
    while place < size and (data := os.pread(descriptor, min(CHUNK, size - place), place)):
        state.update(data)
        place += len(data)
    return state.hexdigest(), data


def signature(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the file does, unless two changes are within one tick of the clock."""
    return status.st_size, status.st_mode, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _is_settled(status: os.stat_result, moment: int) -> bool:
    """Whether a change after `moment` is sure to change the ctime: git's "racily clean" rule.

    Only the kernel sets the ctime. After the clock went back, files "from the future" are read at
    each scan until the clock has passed their ctime.
    """
    coarse = VERY_COARSE if status.st_ctime_ns % 1_000_000_000 == 0 else COARSE
    return status.st_ctime_ns + coarse < moment
