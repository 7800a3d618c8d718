"""Where the author's files are, as a terminal shows them: relative to where the person stands.

Paths come from other places: the sync and Airflow name a file by its path in the snapshot, which
has the DAG folder with each further folder below its name. The traceback of a parse names it below
the DAG folder, or, where no snapshot was made, in the further folder itself; that of a task names
it in the snapshot.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_PATH_BEFORE = r"(?<![\w.~/-])"
"""A folder's path in a text begins here; else `/srv/dags/` would be found in `/old/srv/dags/`."""

_SNAPSHOT = "/(?:snapshots/[0-9a-f]{32}|store/current)/"
_IN_A_SNAPSHOT = re.compile(f".*{_SNAPSHOT}")
_OF_A_SNAPSHOT = rf"""((?<=")/[^"\n]*?|(?<=')/[^'\n]*?|{_NO_PATH_BEFORE}/[^\s"']*?){_SNAPSHOT}"""
"""In a text a path in quotes may have spaces. The store is where the task ran, maybe in a pod."""

_OTHERS = re.compile(r"/(site|dist)-packages/|/lib/python3\.")
"""A file of Python or of a package."""


@dataclass(frozen=True)
class Places:
    """The folders of an author.

    Args:
        dags: The DAG folder, as tracebacks name it.
        further: Name in the snapshot → folder, of each further folder.
        here: Where the person stands; by default the current folder.
        alias: How else tracebacks name the DAG folder.
    """

    dags: str
    further: Mapping[str, str] = field(default_factory=dict)
    here: str = field(default_factory=os.getcwd)
    alias: str = ""

    def shown(self, path: str) -> str:
        """A path in the snapshot, as a terminal can open it."""
        name, _, rest = path.partition("/")
        if name in self.further:
            return self.relative(f"{self.further[name]}/{rest}")
        return self.relative(f"{self.dags}/{path}")

    def own(self, file: str) -> str | None:
        """A file that a traceback names, as `shown`; None if it is not the author's."""
        if in_a_snapshot := _IN_A_SNAPSHOT.match(file):
            return self.shown(file[in_a_snapshot.end() :])
        for prefix, folder in self._prefixes.items():
            if file.startswith(prefix):
                return self.relative(folder + file.removeprefix(prefix))
        return None

    def as_named_by(self, files: Iterable[str], *, path: str) -> Places:
        """The same folders for a traceback that was made on another machine.

        Who deployed the environment may have had the DAG folder elsewhere. Then the frame of the
        DAG file tells where.

        Args:
            files: That the traceback names.
            path: The DAG file, in the snapshot.
        """
        files = list(files)
        if not path or any(map(self.own, files)):
            return self
        for file in files:
            if file.endswith(f"/{path}") and not _OTHERS.search(file):
                return replace(self, alias=file.removesuffix(path))
        return self

    def in_text(self, text: str) -> str:
        """A text with the author's paths as `shown`."""
        either = "|".join(re.escape(prefix) for prefix in self._prefixes)
        pattern = f"({_OF_A_SNAPSHOT}|{_NO_PATH_BEFORE}({either}))([^\\s\"':,;]*)"
        return re.sub(pattern, lambda found: self.own(found[0]) or found[0], text)

    @property
    def _prefixes(self) -> dict[str, str]:
        """How a file's path begins in a traceback → the folder that it is in, longest first."""
        dags = self.dags.rstrip("/") + "/"
        names = [dags, self.alias] if self.alias else [dags]
        folders = dict.fromkeys(names, dags)
        for name, folder in self.further.items():
            further = folder.rstrip("/") + "/"
            folders |= {further: further, **{f"{start}{name}/": further for start in names}}
        return dict(sorted(folders.items(), key=lambda item: len(item[0]), reverse=True))

    def relative(self, file: str) -> str:
        """A file's absolute path, relative to where the person stands."""
        path = Path(os.path.normpath(file))
        relative = os.path.relpath(path, self.here)
        return relative if path.is_relative_to(self.here) else min(str(path), relative, key=len)
