"""Airflow's components as programs of this machine: their commands, variables and order."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import windsock
from windsock.airflow import settings as airflow_settings
from windsock.errors import ConfigurationError
from windsock.files import cannot
from windsock.local.programs import LOGS, RUN, Program
from windsock.local.sockets import socket_path
from windsock.local.variables import WINDSOCKS_OWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.config import Settings
    from windsock.local.ports import PortChoice
    from windsock.local.postgres import Postgres
    from windsock.local.secrets import Secrets
    from windsock.local.venv import Venv

SYNC_STAGE = 3
"""The sync stops first, then what runs tasks, then the API, and the database (stage 0) last."""

PORTS = {"postgres": 5433, "scheduler-health": 8974}
"""The wanted ports of what is not for people; the UI's is a setting."""

OWN = {
    "airflow",
    "applied.json",
    "environment.json",
    "holds.json",
    "imported-settings.digest",
    "imported-settings.json",
    "lock",
    "logs",
    "plugins.loaded",
    "ports.json",
    "postgres",
    "run",
    "runtime",
    "secrets",
    "settings.json",
    "shell.json",
    "store",
    "target.json",
    "venv",
}
"""Everything that windsock puts into a state folder."""

DAG_PROCESSOR_SOCKET = "dag-processor.sock"
CONTROL_SOCKET = "control.sock"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything of a local environment lies, below its state folder."""

    state: Path

    @property
    def venvs(self) -> Path:
        """Airflow's venvs."""
        return self.state / "venv"

    @property
    def secrets(self) -> Path:
        """Keys and passwords."""
        return self.state / "secrets"

    @property
    def database(self) -> Path:
        """PostgreSQL's data."""
        return self.state / "postgres" / "data"

    @property
    def migrated(self) -> Path:
        """Which Airflow the database was last migrated for; wiped with it."""
        return self.state / "postgres" / "migrated"

    @property
    def store(self) -> Path:
        """The snapshots of the DAG folder."""
        return self.state / "store"

    @property
    def home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.state / "airflow"

    @property
    def runtimes(self) -> Path:
        """Copies of `windsock.runtime`, each in a folder named by its digest."""
        return self.state / "runtime"

    @property
    def source(self) -> Path:
        """A file with the path of the DAG folder, for what runs on when that is another one."""
        return self.state / RUN / "dags-folder"

    @property
    def ports(self) -> Path:
        """The remembered ports."""
        return self.state / "ports.json"

    def log(self, name: str) -> Path:
        """The log of a supervised program."""
        return self.state / LOGS / f"{name}.log"

    def check_is_ours(self) -> None:
        """Check that windsock made all that is in the state folder, before the folder is removed.

        Raises:
            ConfigurationError: Something is in it that windsock did not make.
        """
        strangers = sorted(item.name for item in self.state.iterdir() if item.name not in OWN)
        if strangers:
            raise ConfigurationError(
                f"{self.state} is not removed: windsock did not make {', '.join(strangers[:5])}",
                "Move that away, or correct `windsock.state` in invoke.yaml.",
            )

    def socket(self, name: str) -> Path:
        """A unix socket, in a short folder elsewhere if the state folder's path is too long."""
        return socket_path(self.state / RUN, name)


def runtime_sources() -> dict[str, Path]:
    """Everything of windsock that runs in Airflow's processes: path below PYTHONPATH → file."""
    package = Path(windsock.__file__).parent
    shared = [package / f"{name}.py" for name in ("__init__", "events", "json_lines")]
    paths = [*shared, *sorted((package / "runtime").rglob("*.py"))]
    return {f"windsock/{path.relative_to(package).as_posix()}": path for path in paths}


def runtime_folder(layout: Layout) -> Path:
    """Where the copy of today's `windsock.runtime` is, or will be."""
    contents = b"\0".join(path.read_bytes() for path in runtime_sources().values())
    return layout.runtimes / hashlib.sha256(contents).hexdigest()[:16]


def ensure_runtime(layout: Layout) -> Path:
    """Give Airflow's processes `windsock.runtime`, and nothing else of the toolkit's environment.

    A copy never changes: processes that run import from theirs, and another version of windsock,
    whose copy has another name, restarts them.

    Returns:
        The folder for PYTHONPATH.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    sources = runtime_sources()
    folder = runtime_folder(layout)
    if folder.exists():
        return folder
    try:
        layout.runtimes.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=layout.runtimes, prefix=".new-") as fresh:
            whole = Path(fresh, "copy")
            for name, path in sources.items():
                place = whole / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            try:
                whole.rename(folder)
            except OSError:
                if not folder.is_dir():  # Else somebody else was quicker.
                    raise
    except OSError as error:
        raise cannot(f"write to {layout.runtimes}", error) from error
    return folder


def airflow_variables(
    settings: Settings,
    layout: Layout,
    *,
    secrets: Secrets,
    postgres: Postgres,
    ports: Mapping[str, PortChoice],
    runtime: Path,
) -> dict[str, str]:
    """Every variable of Airflow's processes; `runtime` is what `ensure_runtime` gave."""
    api = f"http://127.0.0.1:{ports['api'].port}"
    values = {
        **airflow_settings.shared(settings, store=str(layout.store)),
        "core.parallelism": str(settings.local.parallelism),
        "core.execution_api_server_url": f"{api}/execution/",
        "core.fernet_key": secrets.fernet_key,
        "core.simple_auth_manager_passwords_file": str(secrets.users_file),
        "database.sql_alchemy_conn": postgres.url(),
        "database.sql_alchemy_conn_async": postgres.url("asyncpg"),
        "api.host": "127.0.0.1",
        "api.port": str(ports["api"].port),
        "api.base_url": api,
        "api.secret_key": secrets.api_secret_key,
        "api_auth.jwt_secret": secrets.jwt_secret,
        "dag_processor.dag_bundle_storage_path": str(layout.home / "bundles"),
        "logging.base_log_folder": str(layout.home / "logs"),
        "logging.dag_processor_child_process_log_directory": str(
            layout.home / "logs" / "dag_processor"
        ),
        # The API server first asks a log server at the task's host; with no host, as there is no
        # such server here (see `_MANNERS`), it reads the file at once.
        "core.hostname_callable": "builtins.str",
        "scheduler.scheduler_health_check_server_host": "127.0.0.1",
        "scheduler.scheduler_health_check_server_port": str(ports["scheduler-health"].port),
    }
    return {
        **airflow_settings.environment_variables(values),
        "AIRFLOW_HOME": str(layout.home),
        "AIRFLOW_CONN_WAREHOUSE": postgres.warehouse_url(),
        "PYTHONPATH": str(runtime),
        # A snapshot never changes: bytecode must not be written into it.
        "PYTHONDONTWRITEBYTECODE": "1",
        "WINDSOCK_DAGS_FOLDER": str(layout.source),
        "WINDSOCK_DAG_PROCESSOR_SOCKET": str(layout.socket(DAG_PROCESSOR_SOCKET)),
        **airflow_settings.runtime_variables(settings),
    }


@dataclass(frozen=True, kw_only=True)
class _Manner:
    """How a component is started and stopped; measured with Airflow 3.3.2.

    Attributes:
        options: For its command line.
        stop_signal: What ends it, quickly and cleanly.
        stop_seconds: Until it is killed.
        stage: See `Program.stage`.
    """

    options: tuple[str, ...] = ()
    stop_signal: str = "INT"
    stop_seconds: int = 10
    stage: int = 2


# All components share this machine's disk: the log servers of scheduler and triggerer, which
# Airflow binds to all interfaces, are not needed. On TERM the scheduler waits for running tasks and
# the triggerer for ten seconds; on INT both end within three. The API server must outlive them, for
# the last words of their tasks; all it does after two seconds is to collect its garbage.
_MANNERS = {
    "api-server": _Manner(stop_signal="TERM", stop_seconds=2, stage=1),
    "scheduler": _Manner(options=("--skip-serve-logs",)),
    "dag-processor": _Manner(),
    "triggerer": _Manner(options=("--skip-serve-logs",)),
}

AIRFLOW_START_SECONDS = 10
"""A component that ends sooner has crashed on import: it counts as failing, not as restarted."""


def airflow_programs(layout: Layout, venv: Venv, variables: Mapping[str, str]) -> list[Program]:
    """The components of Airflow, for the supervisor."""
    return [
        Program(
            name=name,
            command=(str(venv.python), "-m", "windsock.runtime.start", name, *manner.options),
            environment=variables,
            folder=layout.home,
            stop_signal=manner.stop_signal,
            stop_seconds=manner.stop_seconds,
            start_seconds=AIRFLOW_START_SECONDS,
            stage=manner.stage,
        )
        for name, manner in _MANNERS.items()
    ]


def inherited_variables(own: Mapping[str, str], *, scripts: Path | None = None) -> dict[str, str]:
    """What Airflow's processes take over from the user's shell.

    A setting of another Airflow, or of Python, must not change this one; connections and variables
    (`AIRFLOW_CONN_…`, `AIRFLOW_VAR_…`) are the user's word and stay.

    Args:
        own: The variables of this process.
        scripts: A folder to look for programs in first, for tasks that call `airflow` or `python`.
    """
    inherited = {
        name: value
        for name, value in own.items()
        if not name.startswith(("AIRFLOW__", *WINDSOCKS_OWN))
    }
    if scripts is not None:
        inherited["PATH"] = f"{scripts}{os.pathsep}{own.get('PATH', os.defpath)}"
    return inherited
