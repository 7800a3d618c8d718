"""A record of the objects that this environment applied last: their digest, in its state folder."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from windsock.local.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "applied.json"
BY_OTHERS = "applied by others"
"""Stands in place of the digest when somebody else, say Tilt, applies the objects."""


class AppliedRecord:
    """The record of one environment.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE

    def save(self, objects: Sequence[dict[str, Any]]) -> None:
        """Record that exactly these objects were applied and rolled out."""
        write_whole(self._file, _digest(objects))

    def save_by_others(self) -> None:
        """Record that somebody else applies the objects."""
        write_whole(self._file, BY_OTHERS)

    def clear(self) -> None:
        """Remove the record: the objects are about to change."""
        self._file.unlink(missing_ok=True)

    def by_others(self) -> bool:
        """Whether somebody else applies the objects."""
        return self._read() == BY_OTHERS

    def matches(self, objects: Sequence[dict[str, Any]]) -> bool:
        """Whether exactly these objects were applied last."""
        return self._read() == _digest(objects)

    def _read(self) -> str:
        try:
            return self._file.read_text(encoding="utf-8")
        except OSError:
            return ""


def _digest(objects: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()
