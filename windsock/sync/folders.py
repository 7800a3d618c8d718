"""The folders that are synced: the DAG folder, and further folders below their names.

All make one tree and one snapshot, so a DAG file and a module that it imports from a further folder
never come from two different saves.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.sync.rules import IGNORE_FILE, Rules
from windsock.sync.scan import NOTHING, Problem, Scan, Tree, scan
from windsock.sync.times import EMPTY_PATIENCE
from windsock.sync.watch import POLL, Hints, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping


class Folder:
    """One folder: its rules, its watcher, and its last scan.

    Args:
        root: The folder.
        name: Its name in the tree; empty for the DAG folder.
        hints: Collects the paths that changed, as paths of the tree.
        note: See `Watcher`.
    """

    def __init__(self, root: Path, *, name: str, hints: Hints, note: Callable[[str], None]) -> None:
        self.root = root
        self.name = name
        self.prefix = f"{name}/" if name else ""
        self.watcher = Watcher(
            root,
            hint=lambda path: hints.note(None if path is None else self.prefix + path),
            note=note,
        )
        self._rules: Rules | None = None
        self._complaint = ""
        self._emptied_at = 0.0
        self._last = NOTHING
        self._had: Collection[str] = ()

    @property
    def title(self) -> str:
        """The folder in a message."""
        return f"the folder {self.root}" if self.name else f"the DAG folder {self.root}"

    @property
    def interval(self) -> float:
        """Seconds after which to look even without a hint."""
        all_is_known = not self._last.unread and not self._last.missing
        return self.watcher.interval if all_is_known else min(self.watcher.interval, POLL)

    def load_rules(self) -> None:
        """Load the rules again; rules that cannot be loaded leave the ones before in force.

        So does a file that is empty or gone for a moment: what it leaves out may be secret.
        """
        self._complaint = ""
        try:
            rules = Rules.load(self.root, known=self._rules)
        except ConfigurationError as error:
            self._complaint = error.message
            return
        emptied = self._rules is not None and self._rules.are_own and not rules.are_own
        self._emptied_at = (self._emptied_at or time.monotonic()) if emptied else 0.0
        if not emptied or time.monotonic() - self._emptied_at >= EMPTY_PATIENCE:
            self._rules, self._emptied_at = rules, 0.0

    def look(self, hinted: Collection[str] | None, elsewhere: Callable[[str, bytes], str]) -> Scan:
        """Scan the folder by its rules; the result has paths of the folder.

        Args:
            hinted: See `Folders.look`.
            elsewhere: See `scan`.
        """
        if self._rules is None:
            # What it leaves out may be secret: nothing is sent until it can be read.
            self.watcher.watch(Rules())
            return Scan(tree=NOTHING.tree, missing=self._complaint)
        problems: list[Problem] = []
        if self._complaint:
            reason = f"the rules stay as they were: {self._complaint}"
            problems.append(Problem(IGNORE_FILE, reason))
        watched = self.watcher.watch(self._rules)
        only = None
        if watched and hinted is not None:
            only = {path[len(self.prefix) :] for path in hinted if path.startswith(self.prefix)}
        found = scan(self.root, self._rules, self._last, only=only, elsewhere=elsewhere)
        self._last = dataclasses.replace(found, contents={})
        self._had = found.tree.entries or self._had
        if line := self.left_out_by():
            reason = f"its line `{line}` leaves out everything in {self.title}"
            problems.append(Problem(IGNORE_FILE, reason))
        waits = {IGNORE_FILE} if self._emptied_at else set()
        return dataclasses.replace(
            found,
            problems=(*problems, *found.problems),
            unsettled=found.unsettled.union(waits),
        )

    def sends(self, path: str) -> bool:
        """Whether a file of the folder, or the folder itself (""), is sent."""
        return self._rules is not None and not (path and self._rules.ignores_below(path))

    def left_out_by(self) -> str:
        """The line of `.windsockignore` that leaves out all there is; empty if none does."""
        if self._rules is None or len(self._last.tree) or self._last.missing:
            return ""
        if self._had:  # Its files may be gone: then no rule took them.
            return self.line_against(self._had)
        left_out = (self._rules.own_line(path, is_directory=is_directory) for path, is_directory
                    in self._walk(self._rules))  # fmt: skip
        return next(filter(None, left_out), "")

    def line_against(self, paths: Iterable[str]) -> str:
        """The line of `.windsockignore` that leaves out one of these files, if it still exists."""
        there = (path for path in paths if os.path.lexists(self.root / path))
        lines = (self._rules.own_line_above(path) for path in there if self._rules is not None)
        return next(filter(None, lines), "")

    def _walk(self, rules: Rules) -> Iterator[tuple[str, bool]]:
        """All paths down to those that are ignored, each with whether it is a folder."""
        folders = [""]
        while folders:
            prefix = folders.pop()
            with suppress(OSError), os.scandir(self.root / prefix) as items:
                for item in sorted(items, key=lambda each: each.name):
                    is_directory = item.is_dir(follow_symlinks=False)
                    path = prefix + item.name
                    yield path, is_directory
                    if is_directory and not rules.ignores(path, is_directory=True):
                        folders.append(path + "/")

    def settled(self, path: str, digest: str) -> tuple[int, ...]:
        """The signature of a file as long as it has this content; empty if that is not known."""
        known = self._last.index.get(path)
        if known is None or not known.settled or known.entry.value != digest:
            return ()
        return known.signature

    def forget(self) -> None:
        """Read every file at the next scan, whatever its times are."""
        self._last = dataclasses.replace(self._last, index={})


class Folders:
    """All folders, as one tree; `further` has the names in the tree."""

    def __init__(
        self,
        root: Path,
        *,
        further: Mapping[str, Path],
        hints: Hints,
        note: Callable[[str], None],
    ) -> None:
        self._dags = Folder(root, name="", hints=hints, note=note)
        self._further = [
            Folder(folder, name=name, hints=hints, note=note)
            for name, folder in sorted(further.items())
        ]
        self._all = [self._dags, *self._further]
        self._tree = NOTHING.tree
        self._missing: dict[str, str] = {}

    @property
    def interval(self) -> float:
        """Seconds after which to look even without a wake."""
        return min(folder.interval for folder in self._all)

    @property
    def notes(self) -> list[str]:
        """Why saves are noticed more slowly than usual now, a sentence for each such folder."""
        return [note for folder in self._all if (note := folder.watcher.standing)]

    def is_elsewhere(self) -> bool:
        """Whether another folder is in the place of one that is watched; cheap."""
        return any(folder.watcher.is_elsewhere() for folder in self._all)

    def stop(self) -> None:
        """Stop watching, until the next look."""
        for folder in self._all:
            folder.watcher.stop()

    def forget(self) -> None:
        """Read every file at the next scan, whatever its times are."""
        for folder in self._all:
            folder.forget()

    def look(self, hinted: Collection[str] | None) -> Scan:
        """Scan all folders.

        Args:
            hinted: The paths that may have changed since the last look; None if any may have.
        """
        for folder in self._all:
            folder.load_rules()
        scans = [
            (folder, folder.look(hinted, functools.partial(self._target, folder)))
            for folder in self._all
        ]
        self._missing = {
            folder.name: f"{folder.title} cannot be read: {found.missing}"
            for folder, found in scans
            if found.missing
        }
        if not self._further:
            return dataclasses.replace(scans[0][1], missing=self._missing.get("", ""))

        def visible(folder: Folder, path: str) -> bool:
            return bool(folder.name) or not self._is_hidden(path)

        tree = Tree(
            {
                folder.prefix + path: entry
                for folder, found in scans
                for path, entry in found.tree.entries.items()
                if visible(folder, path)
            }
        )
        if tree != self._tree:  # The old one may know its id already.
            self._tree = tree
        hidden = {
            path.partition("/")[0] for path in scans[0][1].tree.entries if self._is_hidden(path)
        }
        problems = [
            Problem(name, "its name is that of a further folder (sync.folders)")
            for name in sorted(hidden)
        ]
        problems += [
            Problem(folder.prefix + problem.path, problem.reason)
            for folder, found in scans
            for problem in found.problems
            if visible(folder, problem.path)
        ]
        return Scan(
            tree=self._tree,
            problems=tuple(problems),
            unsettled=frozenset(
                folder.prefix + path
                for folder, found in scans
                for path in found.unsettled
                if visible(folder, path)
            ),
            unread=frozenset(
                folder.prefix + path
                for folder, found in scans
                for path in found.unread
                if visible(folder, path)
            ),
            missing=self._missing.get("", ""),
            contents={
                digest: content for _, found in scans for digest, content in found.contents.items()
            },
        )

    def _target(self, of: Folder, path: str, place: bytes) -> str:
        """What a link in one folder leads to when it leads into another one; see `scan`.

        A link from a further folder to a folder of DAGs is not followed: it may lead in a circle.
        """
        for folder in self._all:
            root = os.path.realpath(os.fsencode(folder.root))
            is_within = place == root or place.startswith(root + b"/")
            if (
                folder is of
                or not is_within
                or (not folder.name and Path(os.fsdecode(place)).is_dir())
            ):
                continue
            inside = place[len(root) + 1 :].decode("utf-8", "replace")
            if folder.sends(inside):
                end = (folder.prefix + inside).rstrip("/")
                return posixpath.relpath(end, posixpath.dirname(of.prefix + path) or ".")
        return ""

    def _is_hidden(self, path: str) -> bool:
        """Whether a further folder is in the place of this path of the DAG folder."""
        name = path.partition("/")[0]
        return any(folder.name == name for folder in self._further)

    def settled(self, path: str, digest: str) -> tuple[int, ...]:
        """The signature of a file as long as it has this content; empty if that is not known."""
        folder, inside = self._folder_of(path)
        return folder.settled(inside, digest)

    def halted(self, new: Tree, old: Tree) -> dict[str, str]:
        """The folders that are gone, or have files in the old tree and none in the new one.

        Returns:
            Name in the tree → why its files are not taken away from the store.
        """
        reasons = dict(self._missing)
        for folder in self._all:
            before = self._paths(folder, old)
            if before and folder.name not in reasons and not self._paths(folder, new):
                line = folder.line_against(before)
                why = (
                    f"line `{line}` of {folder.root / IGNORE_FILE} leaves out everything in "
                    f"{folder.title}"
                    if line
                    else f"{folder.title} is empty"
                )
                reasons[folder.name] = f"{why}, the store holds {len(before)} files"
        return reasons

    def _paths(self, folder: Folder, tree: Tree) -> Collection[str]:
        """The files of a folder, by their paths there."""
        if not self._further:
            return tree.entries
        return [
            path[len(folder.prefix) :]
            for path in tree.entries
            if (path.startswith(folder.prefix) if folder.name else not self._is_hidden(path))
        ]

    def place(self, path: str) -> bytes:
        """The file of a path of the tree, on this machine."""
        folder, inside = self._folder_of(path)
        return os.fsencode(folder.root) + b"/" + inside.encode("utf-8")

    def _folder_of(self, path: str) -> tuple[Folder, str]:
        """The folder that a path of the tree belongs to, and the path there."""
        name, _, rest = path.partition("/")
        for folder in self._further:
            if folder.name == name:
                return folder, rest
        return self._dags, path
