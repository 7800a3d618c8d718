"""The folders that are synced: the DAG folder, and further folders below their names.

All make one tree and one snapshot, so a DAG file and a module that it imports from a further folder
never come from two different saves.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError
from windsock.sync.rules import Rules
from windsock.sync.scan import NOTHING, Problem, Scan, Tree, scan
from windsock.sync.watch import Hints, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path


class Folder:
    """One folder: its rules, its watcher, and its last scan.

    Args:
        root: The folder.
        name: Its name in the tree; empty for the DAG folder.
        hints: Collects the paths that changed, as paths of the tree.
        note: See `Watcher`.

    Raises:
        ConfigurationError: Its `.windsockignore` is broken.
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
        self._rules = Rules.load(root)
        self._last = NOTHING

    @property
    def title(self) -> str:
        """The folder in a message."""
        return f"the folder {self.root}" if self.name else f"the DAG folder {self.root}"

    def look(self, hinted: Collection[str] | None) -> Scan:
        """Scan the folder; `hinted` has paths of the tree, the result has paths of the folder."""
        complaints: tuple[Problem, ...] = ()
        try:
            self._rules = Rules.load(self.root, known=self._rules)
        except ConfigurationError as error:
            reason = f"the rules stay as they were: {error.message}"
            complaints = (Problem(".windsockignore", reason),)
        watched = self.watcher.watch(self._rules)
        only = None
        if watched and hinted is not None:
            only = {path[len(self.prefix) :] for path in hinted if path.startswith(self.prefix)}
        found = scan(self.root, self._rules, self._last, only=only)
        self._last = dataclasses.replace(found, contents={})
        return dataclasses.replace(found, problems=complaints + found.problems)

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
    """All folders, as one tree; `further` has the names in the tree.

    Raises:
        ConfigurationError: The `.windsockignore` of one is broken.
    """

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

    @property
    def interval(self) -> float:
        """Seconds after which to look even without a wake."""
        return min(folder.watcher.interval for folder in self._all)

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
        scans = [(folder, folder.look(hinted)) for folder in self._all]
        missing = "; ".join(
            f"{folder.title} cannot be read: {found.missing}"
            for folder, found in scans
            if found.missing
        )
        if not self._further:
            return dataclasses.replace(scans[0][1], missing=missing)

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
            missing=missing,
            contents={
                digest: content for _, found in scans for digest, content in found.contents.items()
            },
        )

    def _is_hidden(self, path: str) -> bool:
        """Whether a further folder is in the place of this path of the DAG folder."""
        name = path.partition("/")[0]
        return any(folder.name == name for folder in self._further)

    def settled(self, path: str, digest: str) -> tuple[int, ...]:
        """The signature of a file as long as it has this content; empty if that is not known."""
        folder, inside = self._folder_of(path)
        return folder.settled(inside, digest)

    def emptied(self, new: Tree, old: Tree) -> str:
        """Which folder has files in the old tree and none in the new one; empty if none."""
        for folder in self._all:
            before = self._count(folder, old)
            if before and not self._count(folder, new):
                return f"{folder.title} is empty, the store holds {before} files"
        return ""

    def _count(self, folder: Folder, tree: Tree) -> int:
        if not self._further:
            return len(tree)
        if folder.name:
            return sum(path.startswith(folder.prefix) for path in tree.entries)
        return sum(not self._is_hidden(path) for path in tree.entries)

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
