"""Import a library only when something of it is used, for one module that hardly ever does.

Airflow imports libcst for one function: it takes the decorators from the source of tasks that run
in another virtual environment. No other task needs it, and it is a tenth of what a task's pod
imports (0.14 of 1.36 s of CPU, measured with Airflow 3.3.2).

Source: airflow/sdk/definitions/_internal/decorators.py
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def postponed(
    library: str = "libcst",
    *,
    user: str = "airflow.sdk.definitions._internal.decorators",
    bases: tuple[str, ...] = ("CSTTransformer",),
) -> Iterator[None]:
    """Let one module have a library later, if it is imported meanwhile; all others have it at once.

    Args:
        library: What the module imports as a whole.
        user: The module. It is executed again, in place, when it uses the library.
        bases: The classes of the library that those of the module derive from.
    """
    finder = _Finder(_Later(library, user=user, bases=bases))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.stand_in.leave()


class _Later(ModuleType):
    """Stands for the library until anything but a base is asked of it.

    Args:
        library: Its name.
        user: The module that has it.
        bases: As for `postponed`.
    """

    def __init__(self, library: str, *, user: str, bases: tuple[str, ...]) -> None:
        super().__init__(library)
        self.user = user
        for name in bases:
            setattr(self, name, object)

    def enter(self) -> None:
        """Be what is imported, unless the library was imported already."""
        sys.modules.setdefault(self.__name__, self)

    def leave(self) -> None:
        """Let the library itself be imported again."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, name: str) -> Any:
        """Something of the library, which its user has from now on."""
        if name.startswith("__"):  # Asked of any module by those who look through all.
            raise AttributeError(name)
        self.leave()
        # In place: what others have of the module finds in its globals the library, and classes
        # that derive from the library's.
        importlib.reload(sys.modules[self.user])
        return getattr(importlib.import_module(self.__name__), name)


class _Finder(MetaPathFinder):
    """Finds nothing, and learns which module is executed next."""

    def __init__(self, stand_in: _Later) -> None:
        self.stand_in = stand_in

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        del path, target
        if fullname == self.stand_in.user:
            self.stand_in.enter()
        else:
            self.stand_in.leave()
