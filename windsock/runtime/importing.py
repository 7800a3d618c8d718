"""Import much at once, without the garbage collector's help.

It would look through a growing heap of modules again and again and find nothing, for a third of the
CPU time of a start. What was imported is then frozen, so that forked processes share it for good.

While Airflow is imported it reads three YAML files of its own: the description of its settings
twice, and a list of its metrics with the slow one of PyYAML's two loaders. That is a tenth of the
time of such an import (0.12 of 1.25 s, measured with 3.3.2), and most of it is saved here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def import_all(needed: str, preloaded: Iterable[str] = ()) -> None:
    """Import modules, with the collector off.

    Args:
        needed: Fails if it cannot be imported.
        preloaded: This Airflow may have moved them: then they are imported when they are needed.
    """
    gc.disable()
    try:
        with quick_yaml():
            importlib.import_module(needed)
            for module in preloaded:
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def quick_yaml() -> Iterator[None]:
    """Let `yaml.safe_load` use the loader written in C, and read no file twice, meanwhile."""
    try:
        import yaml  # noqa: PLC0415 - Airflow's; it loads what it needs
    except ImportError:
        yield
        return
    if not yaml.__with_libyaml__:
        yield
        return
    load, safe_load = yaml.load, yaml.safe_load
    read: dict[str, bytes] = {}

    def load_once(stream: Any, Loader: Any) -> Any:  # noqa: N803 - PyYAML's own name of it
        name = getattr(stream, "name", None)
        if Loader is not yaml.CSafeLoader or not isinstance(name, str):
            return load(stream, Loader)
        if name not in read:
            read[name] = pickle.dumps(load(stream, Loader))
        return pickle.loads(read[name])  # noqa: S301 - what we have just pickled: each gets its own

    yaml.load = load_once
    yaml.safe_load = lambda stream: load_once(stream, yaml.CSafeLoader)
    try:
        yield
    finally:
        yaml.load, yaml.safe_load = load, safe_load
