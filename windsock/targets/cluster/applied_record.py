"""A record of the objects that this environment applied last: their digest, in its state folder."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from windsock.targets.plan import Action, Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "applied.json"
BY_OTHERS = "applied by others"
"""Stands in place of the digest when somebody else, say Tilt, applies the objects."""


class AppliedRecord:
    """The record of the environment of one state folder."""

    def __init__(self, state: Path) -> None:
        self._record = Record(state / FILE)

    def save(self, objects: Sequence[dict[str, Any]]) -> None:
        """Record that exactly these objects were applied and rolled out."""
        self._record.save(_digest(objects))

    def save_by_others(self) -> None:
        """Record that somebody else applies the objects."""
        self._record.save(BY_OTHERS)

    def clear(self) -> None:
        """Remove the record: the objects are about to change."""
        self._record.clear()

    def by_others(self) -> bool:
        """Whether somebody else applies the objects."""
        return self._record.read() == BY_OTHERS

    def action(self, objects: Sequence[dict[str, Any]]) -> Action:
        """What must be done so that exactly these objects are the ones that were applied last."""
        return self._record.action(_digest(objects))


def _digest(objects: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()
