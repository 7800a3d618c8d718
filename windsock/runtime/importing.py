"""Import many modules at once, before a component or a task begins."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def import_all(needed: str, preloaded: Iterable[str] = ()) -> None:
    """Import modules without garbage collection, which would search them and find nothing.

    That is a quarter of the CPU time of such an import. Forked processes share what was imported:
    the collector ignores it from then on.

    Args:
        needed: Fails if it cannot be imported.
        preloaded: Skipped where this Airflow does not have them.
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


@contextlib.contextmanager
def libcst_on_first_use() -> Iterator[None]:
    """Import Airflow, but load libcst only when Airflow uses it.

    Only tasks that run in another virtual environment use it (see
    airflow/sdk/definitions/_internal/decorators.py). It is a tenth of the CPU time of the import.
    """
    stand_in = _Libcst("libcst")
    sys.modules.setdefault("libcst", stand_in)
    try:
        yield
    finally:
        stand_in.remove()


class _Base:
    """Python changes the bases of a class only if they are more than `object`."""


class _Libcst(ModuleType):
    """Stands for libcst until something of it is used."""

    class CSTTransformer(_Base):
        """The base of Airflow's one class that uses libcst."""

    def remove(self) -> None:
        """Let others import libcst itself."""
        if sys.modules.get("libcst") is self:
            del sys.modules["libcst"]

    def __getattr__(self, name: str) -> Any:
        """Something of libcst itself."""
        # `import libcst.matchers`, say in a plugin, asks for the path of the package.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        self.remove()
        libcst: Any = importlib.import_module("libcst")
        self.CSTTransformer.__bases__ = (libcst.CSTTransformer,)
        return getattr(libcst, name)
