"""Small files: read in any encoding, written whole or not at all, failures explained."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import tempfile
from pathlib import Path

from windsock.errors import EnvironmentFailure

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # It begins as the mark of UTF-16 does.
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark → the encoding that it stands for."""

LARGEST_BYTES = 16 * 1024**2
"""Of a file that a person wrote."""


def content(path: Path) -> bytes:
    """The bytes of a file that a person wrote.

    Raises:
        OSError: It cannot be read, is no file, or is larger than a person writes. A FIFO would be
            waited for, and `/dev/zero` has no end.
    """

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, "rb", opener=without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISBLK(mode):
            raise OSError("it is no file")
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise OSError(f"it is larger than {LARGEST_BYTES // 1024**2} MiB")
    return data


def decoded(data: bytes) -> str:
    """The text of a file that a person wrote: UTF-8, or what its byte order mark says.

    Windows' PowerShell writes UTF-16. A byte that is no text becomes a surrogate, which
    `.encode("utf-8")` refuses.
    """
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(
                encoding, "surrogateescape" if encoding == "utf-8" else "replace"
            )
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return data.decode("utf-16-le", "replace")
    if data[:1] == b"\0" and data[1:2] not in (b"\0", b""):
        return data.decode("utf-16-be", "replace")
    return data.decode("utf-8", "surrogateescape")


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may list; returns it.

    Raises:
        EnvironmentFailure: It cannot be made.
    """
    try:
        made = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        if made:
            folder.chmod(0o700)
    except OSError as error:
        raise cannot(f"make the folder {folder}", error) from error
    return folder


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one, never half.

    Args:
        path: The file; its folder must exist.
        text: All of it, stored as UTF-8.
        mode: Its permissions, from the first moment on.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    fresh: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            fresh = Path(file.name)
            os.fchmod(file.fileno(), mode)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise cannot(f"write {path}", error) from error
    finally:
        if fresh is not None:
            fresh.unlink(missing_ok=True)


def cannot(purpose: str, error: OSError) -> EnvironmentFailure:
    """The error for a person, made of what was wanted and how the system answered.

    Args:
        purpose: Completes "cannot …", for example `write /some/file`.
        error: What the operating system answered.
    """
    return EnvironmentFailure(f"cannot {purpose}: {error.strerror or error}", _advice(error))


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space, then run the command again."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Check who owns it: windsock must be able to write there."
    if error.errno == errno.EROFS:
        return "The file system is read-only: set `windsock.state` to a folder that is not."
    return ""
