"""Where the author's files are, as a terminal shows them: relative to where the person stands.

Paths come from other places: the sync and Airflow name a file by its path in the snapshot, which
has the DAG folder with each further folder below its name. A traceback names it below the DAG
folder, or, where no snapshot was made, in the further folder itself.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_PATH_BEFORE = r"(?<![\w.~/-])"
"""A folder's path in a text begins here; else `/srv/dags/` would be found in `/old/srv/dags/`."""


@dataclass(frozen=True)
class Places:
    """The folders of an author.

    Args:
        dags: The DAG folder, as tracebacks name it.
        further: Name in the snapshot → folder, of each further folder.
        here: Where the person stands; by default the current folder.
    """

    dags: str
    further: Mapping[str, str] = field(default_factory=dict)
    here: str = field(default_factory=os.getcwd)

    def shown(self, path: str) -> str:
        """A path in the snapshot, as a terminal can open it."""
        name, _, rest = path.partition("/")
        if name in self.further:
            return self._relative(f"{self.further[name]}/{rest}")
        return self._relative(f"{self.dags}/{path}")

    def own(self, file: str) -> str | None:
        """A file that a traceback names, as `shown`; None if it is not the author's."""
        for prefix, folder in self._prefixes.items():
            if file.startswith(prefix):
                return self._relative(folder + file.removeprefix(prefix))
        return None

    def in_text(self, text: str) -> str:
        """A text with the author's paths as `shown`."""
        either = "|".join(re.escape(prefix) for prefix in self._prefixes)
        pattern = f"{_NO_PATH_BEFORE}({either})([^\\s\"':,;]*)"
        return re.sub(pattern, lambda found: self.own(found[0]) or found[0], text)

    @property
    def _prefixes(self) -> dict[str, str]:
        """How a file's path begins in a traceback → the folder that it is in, longest first."""
        dags = self.dags.rstrip("/") + "/"
        folders = {dags: dags}
        for name, folder in self.further.items():
            further = folder.rstrip("/") + "/"
            folders |= {f"{dags}{name}/": further, further: further}
        return dict(sorted(folders.items(), key=lambda item: len(item[0]), reverse=True))

    def _relative(self, file: str) -> str:
        path = Path(os.path.normpath(file))
        if not path.is_absolute():  # On Okteto an environment knows no more than the folder's name.
            return str(path)
        relative = os.path.relpath(path, self.here)
        return relative if path.is_relative_to(self.here) else min(str(path), relative, key=len)
