"""Find modules of the DAG folder that nothing else finds.

Airflow puts the folder of a snapshot at the end of `sys.path` where it parses files and runs tasks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.runtime.store import SNAPSHOTS, current_snapshot, manifest, snapshot_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

DAG_FILE = re.compile(r"unusual_prefix_(?P<digest>[0-9a-f]{40})_(?P<name>\w+)")
"""How Airflow names the module of a DAG file: by the digest of its path, and its own name.

Source: `get_unique_dag_module_name` in airflow/utils/file.py.
"""


class DagFileModules:
    """Finds the module of a DAG file, as Airflow names it, in a process that has not parsed it.

    A trigger or a callback that is defined in a DAG file is known by such a name.

    Args:
        store: The snapshot store, as the dag-processor names it.
    """

    def __init__(self, store: Path) -> None:
        self._store = store

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a DAG file: of the current snapshot if the file is still there."""
        del path, target
        wanted = DAG_FILE.fullmatch(name)
        if wanted is None:
            return None
        for snapshot, relative in self._of_name(wanted["name"]):
            file = snapshot_folder(self._store, snapshot) / relative
            digest = hashlib.sha1(str(file).encode(), usedforsecurity=False).hexdigest()
            if digest == wanted["digest"]:
                today = self._store / "current" / relative
                place = today if today.is_file() else file
                return importlib.util.spec_from_file_location(name, place)
        return None

    def _of_name(self, name: str) -> Iterator[tuple[str, str]]:
        """The snapshots and paths of files whose modules have this name."""
        for folder in sorted((self._store / SNAPSHOTS).iterdir()):
            try:
                paths = manifest(self._store, folder.name)
            except (OSError, ValueError):  # It was just collected.
                continue
            for path in paths:
                if path.endswith(".py") and re.sub(r"[.-]", "_", Path(path).stem) == name:
                    yield folder.name, path


class FolderPackage:
    """Finds `dags.…`: elsewhere the folder above the DAG folder is where Python looks, too.

    It is asked last: a module or an installed package of that name is found before.

    Args:
        root: The DAG folder.
    """

    NAME = "dags"

    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of the DAG folder as a package."""
        del target
        if path is not None or name != self.NAME:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [self._root]
        return spec


def use_folder(root: str) -> None:
    """Let code find its DAG folder in this process as it does elsewhere.

    That is as the package `dags`, and as Airflow's setting `[core] dags_folder`.

    Args:
        root: The folder of the snapshot.
    """
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, FolderPackage)]
    sys.meta_path.append(FolderPackage(root))
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = root


class FolderModules:
    """Imports from the current snapshot, in a process that outlives saves.

    Args:
        store: The snapshot store.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._folder = str(store / "current")
        self._snapshot = current_snapshot(store)

    def install(self) -> None:
        """Let this process import from the folder."""
        # The paths stay the same from save to save: bytecode of one could be taken for the next.
        sys.dont_write_bytecode = True
        sys.path.append(self._folder)
        use_folder(self._folder)
        sys.meta_path.append(DagFileModules(self._store))

    def renew(self) -> bool:
        """Forget the modules of the snapshot before, if there is a newer one.

        Returns:
            Whether a file of one of them has changed, or may have.
        """
        before, now = self._snapshot, current_snapshot(self._store)
        if now == before:
            return False
        self._snapshot = now
        files = set()
        for name, module in list(sys.modules.items()):
            places = [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or ())]
            inside = [place for place in places if self._is_inside(place)]
            if inside:
                files.update(inside)
                del sys.modules[name]
        importlib.invalidate_caches()
        return any(self._changed(before, now, file) for file in files)

    def _is_inside(self, place: object) -> bool:
        roots = (f"{self._folder}/", f"{self._store}/{SNAPSHOTS}/")
        return isinstance(place, str) and (place == self._folder or place.startswith(roots))

    def _changed(self, before: str | None, now: str | None, file: str) -> bool:
        if before is None or now is None:
            return True
        relative = file.removeprefix(f"{self._folder}/")
        try:
            return manifest(self._store, before).get(relative) != manifest(self._store, now).get(
                relative
            )
        except OSError:
            return True

    def holds(self, module: str) -> bool:
        """Whether a module that is imported comes from the folder."""
        return self._is_inside(getattr(sys.modules.get(module), "__file__", None))
