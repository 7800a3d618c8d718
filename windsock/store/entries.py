"""What a tree is made of, its id, and the checks on what comes from the wire."""

from __future__ import annotations

import errno
import hashlib
import json
import posixpath
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIGEST = re.compile(r"[0-9a-f]{40}")
TREE_ID = re.compile(r"[0-9a-f]{32}")
MAXIMUM_MODE = 0o777
MAXIMUM_PATH = 4096
REMEMBERED = 30_000
"""The number of members of canonical texts in the cache, about 10 MB."""

Row = tuple[str, int, int, str]
"""One entry of a tree: kind ("file" or "link"), mode, size in bytes, digest or link target."""


def content_digest() -> hashlib.blake2b:
    """A fresh hash for a file's content (160 bits)."""
    return hashlib.blake2b(digest_size=20)


def canonical(entries: Mapping[str, Row]) -> str:
    """The one JSON text of a tree: an object sorted by path, no spaces, ASCII only."""
    # Nearly all members are those of the previous tree: the cache makes this three times as fast.
    member = _member if len(entries) <= REMEMBERED else _member.__wrapped__
    return "{" + ",".join([member(path, row) for path, row in sorted(entries.items())]) + "}"


@lru_cache(REMEMBERED)
def _member(path: str, row: Row) -> str:
    return f"{json.dumps(path)}:{json.dumps(row, separators=(',', ':'))}"


def identify(canonical_text: str) -> str:
    """The tree id (32 hex digits) of a canonical text."""
    return hashlib.blake2b(canonical_text.encode("ascii"), digest_size=16).hexdigest()


class Refusal(Exception):
    """A batch cannot be applied; the store stays as it is.

    Args:
        code: For the program: no_space, not_writable, base_mismatch, bad_path, bad_tree,
            digest_mismatch, out_of_order, taken_over, input_output.
        message: For a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def refusal_of(error: OSError) -> Refusal:
    """The refusal that an error of the operating system amounts to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "no_space"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        code = "not_writable"
    else:
        code = "input_output"
    return Refusal(code, f"the store cannot be written: {error.strerror or error}")


def checked_entries(values: Mapping[str, Any]) -> dict[str, Row]:
    """Entries from the wire, each one checked.

    Raises:
        Refusal: A path, mode, size, digest or link target is not safe to write.
    """
    return {checked_path(path): _checked_row(path, row) for path, row in values.items()}


def checked_path(path: object) -> str:
    """The path, if it is relative and stays inside the folder.

    Raises:
        Refusal: It is absolute, empty, too long, has `..` or NUL, or is not UTF-8.
    """
    if not isinstance(path, str) or "\0" in path:
        raise Refusal("bad_path", f"{path!r} is no path")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise Refusal("bad_path", f"{path!r} does not stay inside the folder")
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise Refusal("bad_path", f"{path!r} is not UTF-8") from None
    if size > MAXIMUM_PATH:
        raise Refusal("bad_path", f"{path[:80]!r}… is too long")
    return path


def _checked_row(path: str, row: Any) -> Row:
    if not isinstance(row, (list, tuple)) or list(map(type, row)) != [str, int, int, str]:
        raise Refusal("bad_tree", f"the entry of {path!r} is malformed")
    kind, mode, size, value = row
    if not 0 <= mode <= MAXIMUM_MODE or size < 0:
        raise Refusal("bad_tree", f"the entry of {path!r} is out of range")
    if kind == "file" and DIGEST.fullmatch(value):
        return kind, mode, size, value
    if kind == "link" and link_stays_inside(path, value):
        return kind, mode, size, value
    raise Refusal("bad_path", f"the entry of {path!r} is no file, and no link inside the folder")


def link_stays_inside(path: str, target: str) -> bool:
    """Whether a link at `path` leads to a place inside the root, by the target's text alone."""
    if not target or "\0" in target or target.startswith("/"):
        return False
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return end != ".." and not end.startswith("../")


def folders_of(paths: Iterable[str]) -> set[str]:
    """All folders above the paths (without the root)."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
