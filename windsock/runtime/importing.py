"""Import much at once, without the garbage collector's help.

It would look through a growing heap of modules again and again and find nothing, for a third of the
CPU time of a start. What was imported is then frozen, so that forked processes share it for good.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def import_all(needed: str, preloaded: Iterable[str] = ()) -> None:
    """Import modules, with the collector off.

    Args:
        needed: Fails if it cannot be imported.
        preloaded: This Airflow may have moved them: then they are imported when they are needed.
    """
    gc.disable()
    try:
        importlib.import_module(needed)
        for module in preloaded:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()
