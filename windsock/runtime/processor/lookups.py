"""What a parse looked for: files by their status, and modules.

Python has audit events for a file that is opened and a folder that is listed, but none for
`os.path.exists` and none for a module that is not found. So in a parser the functions of `os` that
ask for a status are replaced, and the finder of modules on `sys.path`.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

STATUS = ("stat", "lstat", "access", "readlink")
"""Functions of `os` that take a path first. `os.path`, `pathlib` and `glob` call these."""

SETS = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")
"""The sets of `os` by which callers learn what a function can do."""


class Noting:
    """A function of `os` that notes the path it is called with.

    An object: a Python function would become a method wherever a class has it as an attribute.

    Args:
        function: The original.
        note: Takes the path, and whether a folder is there.
    """

    def __init__(self, function: Callable[..., Any], note: Callable[[Any, bool], None]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._note = note

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the original; what it raises is raised."""
        found = None
        try:
            found = self._function(*arguments, **options)
        finally:
            if options.get("dir_fd") is None:
                mode = getattr(found, "st_mode", 0)
                path = arguments[0] if arguments else options.get("path")
                self._note(path, stat.S_ISDIR(mode))
        return found


def note_status(note: Callable[[Any, bool], None]) -> None:
    """Replace the functions that ask for the status of a path, in this (forked) process.

    Args:
        note: Takes each path, as the caller gave it, and whether a folder is there.
    """
    for name in STATUS:
        original = getattr(os, name)
        noting = Noting(original, note)
        setattr(os, name, noting)
        for supporting in (getattr(os, each) for each in SETS):
            if original in supporting:
                supporting.add(noting)


class NotingFinder:
    """Finds modules on `sys.path` as Python's own finder does, and notes where it looked in vain.

    A module that is not found, or is found in a later place, comes from an earlier place as soon as
    there is a file. A folder without `__init__.py` is a package until it gets one.

    Args:
        note: Takes each path at which there is no module.
        watches: Whether what is in a folder of `sys.path` matters.
    """

    def __init__(self, note: Callable[[str], object], watches: Callable[[str], bool]) -> None:
        self._note = note
        self._watches = watches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module, or None if it is not there."""
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        origin = (spec.origin if spec is not None else None) or ""
        name = fullname.rpartition(".")[2]
        for folder in sys.path if path is None else path:
            if isinstance(folder, str):
                place = f"{folder.rstrip('/')}/{name}"
                if self._watches(folder):
                    self._note_before(origin, place)
                if origin.startswith((f"{place}.", f"{place}/")):
                    break  # The folders that follow were not looked at.
        return spec

    def _note_before(self, origin: str, place: str) -> None:
        """Note what would be found in a folder before the file that was found."""
        for candidate in (f"{place}/__init__.py", f"{place}.py", place):
            if candidate == origin:
                return
            self._note(candidate)

    def __getattr__(self, name: str) -> Any:
        """All else that Python's own finder can do, such as to find installed distributions."""
        return getattr(importlib.machinery.PathFinder, name)


def note_modules(note: Callable[[str], object], watches: Callable[[str], bool]) -> None:
    """Put a `NotingFinder` in the place of Python's own finder, in this (forked) process."""
    finders: list[Any] = sys.meta_path
    for position, finder in enumerate(finders):
        if finder is importlib.machinery.PathFinder:
            finders[position] = NotingFinder(note, watches)
