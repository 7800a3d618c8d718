"""Modules that are imported at their first use, so that `invoke --list` is quick."""

from __future__ import annotations

import importlib
from typing import Any


class LateModule:
    """Stands for a module until a command needs it.

    Args:
        name: The dotted name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
