"""The words that all layers share: an environment that is up, and what Airflow made of a save."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from windsock.errors import EnvironmentFailure
from windsock.files import write_whole

ENVIRONMENT_FILE = "environment.json"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A running environment, as the commands and the tests find it.

    Attributes:
        target: The name of its target, for example `local`.
        url: Where Airflow's UI and API answer, without a trailing slash.
        user: The user for the UI and the API.
        password_file: A 0600 file with nothing but the password.
        control_socket: The unix socket of the sync process (see `windsock.sync_process.control`).
        dags_folder: The folder whose saves are synced.
        airflow: Airflow's version.
        further: Name in Airflow → folder, of each further folder that is synced.
        patience: Seconds that Airflow may take to answer one request, or to parse what is on disk,
            on a busy machine.
        parallelism: How many task instances run at once; 0 if that is not known.
    """

    target: str
    url: str
    user: str
    password_file: str
    control_socket: str
    dags_folder: str
    airflow: str
    further: dict[str, str] = field(default_factory=dict)
    patience: float = 180.0
    parallelism: int = 0

    def password(self) -> str:
        """The password of `user`.

        Raises:
            EnvironmentFailure: The file is gone or cannot be read.
        """
        try:
            return Path(self.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise EnvironmentFailure(
                f"the password file cannot be read: {error}", "Run `invoke up` to make it anew."
            ) from error

    def save(self, state_folder: Path) -> None:
        """Write the environment file.

        Raises:
            EnvironmentFailure: It cannot be written.
        """
        text = json.dumps(asdict(self), indent=2) + "\n"
        write_whole(state_folder / ENVIRONMENT_FILE, text, mode=0o644)

    @classmethod
    def load(cls, state_folder: Path) -> Environment:
        """Read what `save` wrote; what a newer windsock has added is left out.

        Raises:
            EnvironmentFailure: Nothing is up, or the file is damaged.
        """
        try:
            values: dict[str, Any] = json.loads(
                (state_folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")
            )
            known = [each.name for each in fields(cls)]
            return cls(**{name: values[name] for name in known if name in values})
        except FileNotFoundError:
            raise EnvironmentFailure(
                "no environment is up here", "Run `invoke up` (or `invoke up --detach`) first."
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise EnvironmentFailure(
                f"{state_folder / ENVIRONMENT_FILE} cannot be used: {error}",
                "Run `invoke down`, then `invoke up`.",
            ) from error


@dataclass(frozen=True, kw_only=True)
class TaskPod:
    """What a cluster knows of the pod of a task that has not started, or has failed.

    Attributes:
        task_id: Of the task.
        map_index: Of the task instance; -1 unless it is mapped.
        why: Why it has not started, or what ended it: one sentence without an end.
        hint: What to do about it; may be empty.
    """

    task_id: str
    map_index: int
    why: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class ParsedSnapshot:
    """The answer to a barrier: Airflow has parsed exactly this tree.

    Attributes:
        snapshot: The tree id of the DAG folder, parsed whole.
        errors: Path relative to the DAG folder → traceback, of every file that does not import.
        dags: The DAG ids that Airflow found, in order.
        warnings: The events `file-warning` that stand, as JSON objects.
        problems: Path → why it is not synced: it is not in the tree.
    """

    snapshot: str
    errors: dict[str, str]
    dags: tuple[str, ...]
    warnings: tuple[dict[str, Any], ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
