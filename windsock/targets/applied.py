"""What this environment applied last, remembered as a digest in its state folder."""

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
"""Instead of a digest: what is there is none of our business."""


class Applied:
    """The note about what was applied.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE

    def remember(self, objects: Sequence[dict[str, Any]]) -> None:
        """Exactly these have been applied, and are rolled out."""
        write_whole(self._file, _digest(objects))

    def remember_others(self) -> None:
        """Somebody else applies what is there."""
        write_whole(self._file, BY_OTHERS)

    def forget(self) -> None:
        """Nobody knows: something is being changed."""
        self._file.unlink(missing_ok=True)

    def by_others(self) -> bool:
        """Whether somebody else applies what is there."""
        return self._read() == BY_OTHERS

    def is_exactly(self, objects: Sequence[dict[str, Any]]) -> bool:
        """Whether these were applied, and nothing else since."""
        return self._read() == _digest(objects)

    def _read(self) -> str:
        try:
            return self._file.read_text(encoding="utf-8")
        except OSError:
            return ""


def _digest(objects: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()
