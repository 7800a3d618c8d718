"""Problems of the folder that are not a DAG file's own: a link, an `.airflowignore`.

They are told, and stored, as the import errors of their paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from windsock.events import Parsed
from windsock.runtime.processor import database
from windsock.runtime.processor.texts import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger("windsock")


class FolderProblems:
    """The problems that there are now.

    Args:
        bundle: The name of the bundle.

    Attributes:
        told: Path → the event that told its problem.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self.told: dict[str, Parsed] = {}
        self._stored: dict[str, str] = {}

    def take(self, found: Mapping[str, str], snapshot: str) -> tuple[list[Parsed], list[str]]:
        """Take what the last search has found.

        Args:
            found: Path → problem.
            snapshot: That was searched.

        Returns:
            The events of new problems, and the paths that are healed.
        """
        texts = {path: storable(text) for path, text in found.items()}
        news = {
            path: Parsed(snapshot=snapshot, file=path, dags={}, errors={path: text}, seconds=0)
            for path, text in texts.items()
            if path not in self.told or self.told[path].errors[path] != text
        }
        healed = [path for path in self.told if path not in texts]
        self._store(texts)
        self.told = {path: news.get(path) or self.told[path] for path in texts}
        return list(news.values()), healed

    def _store(self, texts: dict[str, str]) -> None:
        """Store what differs; what cannot be stored is stored with the next search."""
        fresh = {path: text for path, text in texts.items() if self._stored.get(path) != text}
        gone = self._stored.keys() - texts
        if not fresh and not gone:
            return
        try:
            database.replace_errors(self._bundle, fresh, gone=gone)
        except Exception:
            log.exception("Could not store the problems of the DAG folder.")
        else:
            self._stored = texts
