"""Import DAGs without a running Airflow."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from windsock.errors import DagError
from windsock.targets.folder import check_folders
from windsock.terminal.broken_files import BrokenFiles

if TYPE_CHECKING:
    from windsock.flow.workspace import Workspace
    from windsock.terminal.console import Console


def dags_check(work: Workspace, *, as_json: bool) -> int:
    """Import every DAG without a running Airflow; exit code 1 when one does not import.

    An interrupt ends it with a summary of the files that were checked.
    """
    checker = work.checker()
    folder = work.settings.dags_folder.resolve()
    check_folders(work.settings)
    checker.prepare(work.console)
    report = _Report(work.console if as_json else work.console.on_stdout, work)
    try:
        with (
            report.console.step("checked") as step,
            closing(checker.check(str(folder), progress=step.progress)) as outcomes,
        ):
            for outcome in outcomes:
                report.add(outcome, shown=not as_json)
            step.detail = report.summary
    except KeyboardInterrupt:
        report.end()
        report.console.warning(f"interrupted; checked until then: {report.summary}")
        raise
    report.end()
    if as_json:
        work.console.json(report.outcomes)
    return DagError.exit_code if report.broken else 0


class _Report:
    """The lines of a check, and what they sum up to."""

    def __init__(self, console: Console, work: Workspace) -> None:
        self.console = console
        self.outcomes: list[dict[str, Any]] = []
        self._places = work.places()
        self._broken = BrokenFiles(console, self._places)
        self._owners: dict[str, str] = {}

    def add(self, outcome: dict[str, Any], *, shown: bool) -> None:
        """Take what came of a file, and print it if it is to be shown."""
        file = outcome["file"]
        for dag_id in outcome["dags"]:
            owner = self._owners.setdefault(dag_id, file)
            if owner != file:
                other = self._places.shown(owner)
                outcome["errors"][file] = f"DAG id {dag_id!r} is also defined in {other}"
        self.outcomes.append(outcome)
        if not shown:
            return
        for path, trace in outcome["errors"].items():
            self._broken.show(path, trace)
        if not outcome["errors"]:
            dags = ", ".join(sorted(outcome["dags"])) or "no DAG"
            name = self._places.shown(file)
            self.console.success(f"{name}: {dags}  {outcome['seconds']:.2f} s")

    def end(self) -> None:
        """Print what is said once for many files."""
        self._broken.summarize()

    @property
    def broken(self) -> int:
        """How many files do not import."""
        return sum(bool(outcome["errors"]) for outcome in self.outcomes)

    @property
    def summary(self) -> str:
        """All files in one line."""
        return f"{len(self.outcomes)} files, {len(self._owners)} DAGs, {self.broken} broken"
