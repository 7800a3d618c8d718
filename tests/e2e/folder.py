"""The DAG folder as an author works in it, and the check that all is in step with it."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from tests.e2e.project import EXAMPLES, PATIENCE, ROOT, Project, eventually
from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from windsock.model import ParsedSnapshot

EXAMPLE_DAGS = frozenset(path.stem for path in EXAMPLES.glob("*.py"))
"""Every example file defines the DAG of its name."""

LEFT_OUT = frozenset({".git", "__pycache__", ".stignore"})
"""What windsock never syncs, of all that these tests make."""


def dag_source(
    dag_id: str,
    tasks: Mapping[str, str] | Collection[str] = ("only",),
    *,
    top: str = "",
    task_id: str = "",
) -> str:
    """A DAG file.

    Args:
        dag_id: Of its DAG.
        tasks: Task id → the body of its function, one line each or more, run one after the other;
            or ids only, of tasks that do nothing.
        top: Lines of Python before the DAG.
        task_id: A Python expression for the id of a single task.
    """
    bodies = tasks if isinstance(tasks, dict) else dict.fromkeys(tasks, "return None")
    lines = ["from airflow.sdk import chain, dag, task", "", top, ""]
    lines += [f"@dag(dag_id={dag_id!r}, schedule=None)", "def make():"]
    for name, body in bodies.items():
        lines += [f"    @task(task_id={task_id or repr(name)})", f"    def {name}():"]
        lines += [f"        {line}" for line in body.splitlines()]
    lines += [f"    chain({', '.join(f'{name}()' for name in bodies)})", "", "make()", ""]
    return "\n".join(lines)


CALENDAR = """
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.interval import CronDataIntervalTimetable

class Weekdays(CronDataIntervalTimetable):
    def __init__(self):
        super().__init__("0 {hour} * * 1-5", timezone="UTC")
    def serialize(self):
        return {{}}
    @classmethod
    def deserialize(cls, data):
        return cls()

class Listener:
    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        print("listened at {hour}:", task_instance.task_id)

class Calendar(AirflowPlugin):
    name = "calendar"
    timetables = [Weekdays]
    listeners = [Listener()]
"""


def save_calendar(plugins: Path, *, hour: int) -> None:
    """Save a plugin, `calendar_plugin.py`, with a timetable, `Weekdays`, and a listener.

    Both name the hour: the listener in the log of each task.
    """
    (plugins / "calendar_plugin.py").write_text(CALENDAR.format(hour=hour))


def schedule_of(project: Project, dag_id: str) -> str | None:
    """A DAG's schedule in Airflow."""
    [dag] = [dag for dag in project.airflow.dags() if dag.dag_id == dag_id]
    return dag.schedule


def line_of_log(project: Project, dag_id: str, run_id: str, task_id: str, words: str) -> str:
    """The line of a task's first try that has these words.

    It waits for the line: the supervisor of a task reports its end before it writes the last lines.
    """

    def found() -> list[str]:
        log = project.airflow.log(dag_id, run_id, task_id, try_number=1)
        return [line.event for line in log if words in line.event]

    return eventually(found, f"{words!r} is in the log of {dag_id}.{task_id}")[0]


class Folder:
    """The DAG folder; `restore` brings the examples back as they were.

    Args:
        project: Whose folder it is.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.dags

    def write(self, name: str, text: str | bytes) -> Path:
        """Save a file as most editors do: a new file takes the place of the old one."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + "~")  # an editor's own, never synced
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        fresh.replace(path)
        return path

    def save(self, name: str, text: str) -> ParsedSnapshot:
        """Save a file and wait until Airflow has parsed the folder."""
        self.write(name, text)
        return self.settle()

    def settle(self, *, timeout: float = PATIENCE) -> ParsedSnapshot:
        """Wait until Airflow has parsed exactly what is on disk."""
        return self.project.control.barrier(timeout=timeout)

    def delete(self, *names: str) -> None:
        """Delete files or folders."""
        for name in names:
            path = self.path / name
            if not path.is_symlink() and path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def restore(self) -> None:
        """Make the folder, and the settings file, what they were at first."""
        settings = (ROOT / "airflow_settings.yaml").read_bytes()
        if not self.project.settings.exists() or self.project.settings.read_bytes() != settings:
            self.project.settings.write_bytes(settings)
        self.path.mkdir(exist_ok=True)
        for path in list(self.path.iterdir()):
            if not (EXAMPLES / path.name).exists():
                self.delete(path.name)
        for path in sorted(EXAMPLES.rglob("*")):
            relative = path.relative_to(EXAMPLES)
            if path.is_file() and "__pycache__" not in relative.parts:
                target = self.path / relative
                if not target.is_file() or target.read_bytes() != path.read_bytes():
                    self.write(str(relative), path.read_bytes())


def content_of(folder: Path) -> dict[str, str]:
    """Path → a description of its content, for all files and links below a folder."""
    content: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        kept = [name for name in (*names, *folders) if name not in LEFT_OUT]
        for path in (folder.joinpath(place, name) for name in kept):
            relative = str(path.relative_to(folder))
            if path.is_symlink():
                content[relative] = f"link to {path.readlink()}"
            elif path.is_file():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                content[relative] = f"{path.stat().st_mode & 0o777:o} {digest}"
    return content


def assert_in_step(
    project: Project,
    *,
    dags: Collection[str] = (),
    broken: Collection[str] = (),
    examples: Collection[str] = EXAMPLE_DAGS,
    timeout: float = PATIENCE,
) -> None:
    """The store is equal to the folder, and Airflow lists exactly what the folder defines.

    Args:
        project: Its sync process may be restarting at the moment.
        dags: The ids of the DAGs that must be listed in addition to the examples.
        broken: The files that must have import errors; no others may have one.
        examples: The examples that must be listed.
        timeout: In seconds.
    """
    [settled] = eventually(lambda: _settled(project), "the sync answers again", timeout=timeout)
    assert content_of(project.state / "store" / "current") == content_of(project.dags)

    wanted = sorted({*examples, *dags})
    eventually(
        lambda: _listed(project) == wanted or None,
        f"Airflow lists {wanted}; it lists {_listed(project)}",
        timeout=timeout,
    )
    assert sorted(settled.errors) == sorted(broken)
    assert sorted(error.file for error in project.airflow.import_errors()) == sorted(broken)
    for dag in project.airflow.dags():
        assert dag.file is not None
        assert (project.dags / dag.file).is_file(), f"{dag.dag_id} is listed with {dag.file}"


def _settled(project: Project) -> list[ParsedSnapshot]:
    """The result of a barrier; empty while the sync process does not answer."""
    try:
        return [project.control.barrier(timeout=PATIENCE)]
    except WindsockError:
        return []


def _listed(project: Project) -> list[str] | None:
    """The DAGs that Airflow lists; None while its API does not answer."""
    try:
        return [dag.dag_id for dag in project.airflow.dags()]
    except WindsockError:
        return None
