"""Files and folders of a snapshot, by their names as bytes."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from windsock.store.entries import Refusal, Row, content_digest, folders_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

READ_BYTES = 1024 * 1024


def write_all(
    descriptor: int, data: bytes, *, write: Callable[[int, bytes], int] = os.write
) -> None:
    """Write all of `data`; the system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[write(descriptor, bytes(view) if len(view) < len(data) else data) :]


def join(root: bytes, path: str) -> bytes:
    """A path of a tree as a path below `root`."""
    return root + b"/" + path.encode("utf-8")


def make_folders(root: bytes, paths: Iterable[str]) -> None:
    """Make all folders above the paths."""
    for folder in sorted(folders_of(paths)):
        with contextlib.suppress(FileExistsError):  # `a` and `A` may be one folder there.
            os.mkdir(join(root, folder))


def walk(root: bytes) -> Iterator[tuple[str, os.DirEntry[bytes]]]:
    """All files and links below `root`, each with its relative path."""
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as items:
            for item in items:
                path = prefix + item.name.decode("utf-8")
                if item.is_dir(follow_symlinks=False):
                    folders.append((item.path, path + "/"))
                else:
                    yield path, item


def matches(
    item: os.DirEntry[bytes], row: Row, *, thorough: bool, tick: Callable[[], None]
) -> bool:
    """Whether a file or link is the entry; `thorough` reads a file, and calls `tick` meanwhile."""
    kind, mode, size, value = row
    if item.is_symlink():
        return kind == "link" and os.readlink(item.path) == value.encode("utf-8")
    status = item.stat(follow_symlinks=False)
    if kind != "file" or not stat.S_ISREG(status.st_mode):
        return False
    if (stat.S_IMODE(status.st_mode), status.st_size) != (mode, size):
        return False
    return not thorough or digest_of(item.path, tick=tick) == value


def digest_of(path: bytes, *, tick: Callable[[], None]) -> str:
    """The digest of a file's content; `tick` is called often."""
    state = content_digest()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            state.update(data)
            tick()
    return state.hexdigest()


def check_links(root: bytes, entries: Mapping[str, Row]) -> None:
    """Refuse a tree in which a link leads outside by way of another link."""
    for path, row in entries.items():
        if row[0] == "link":
            end = os.path.realpath(join(root, path))
            inside = os.path.realpath(root)
            if end != inside and not end.startswith(inside + b"/"):
                raise Refusal("bad_path", f"the link {path!r} leads outside the folder")


def text_of(path: bytes) -> str:
    """The text of a file, or an empty one if the file cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def boot_id() -> str:
    """An id of this start of the machine; empty where the system has none."""
    return text_of(b"/proc/sys/kernel/random/boot_id").strip()
