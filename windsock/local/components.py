"""Airflow's components as programs of this machine: their commands, variables and order."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import windsock
from windsock.airflow import settings as airflow_settings
from windsock.local.files import cannot
from windsock.local.programs import Program
from windsock.local.sockets import socket_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windsock.config import Settings
    from windsock.local.ports import PortChoice
    from windsock.local.postgres import Postgres
    from windsock.local.secrets import Secrets
    from windsock.local.venv import Venv

AIRFLOW_STAGE, SYNC_STAGE = 1, 2
"""Stopped first: the sync; then Airflow; the database (stage 0) last."""

PORTS = {
    "postgres": 5433,
    "scheduler-health": 8974,
    "worker-logs": 8793,
    "triggerer-logs": 8794,
}
"""The wanted ports of what is not for people; the UI's is a setting."""

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
    def ports(self) -> Path:
        """The remembered ports."""
        return self.state / "ports.json"

    def socket(self, name: str) -> Path:
        """A unix socket, in a short folder elsewhere if the state folder's path is too long."""
        return socket_path(self.state / "run", name)


def ensure_runtime(layout: Layout) -> Path:
    """Give Airflow's processes `windsock.runtime`, and nothing else of the toolkit's environment.

    A copy never changes: processes that run import from theirs, and another version of windsock,
    whose copy has another name, restarts them.

    Returns:
        The folder for PYTHONPATH.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    package = Path(windsock.__file__).parent
    sources = [package / "__init__.py", *sorted((package / "runtime").glob("*.py"))]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = layout.runtimes / digest
    if folder.exists():
        return folder
    try:
        layout.runtimes.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=layout.runtimes, prefix=".new-") as fresh:
            whole = Path(fresh, "copy")
            for path in sources:
                place = whole / "windsock" / path.relative_to(package)
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
        "logging.worker_log_server_port": str(ports["worker-logs"].port),
        "logging.trigger_log_server_port": str(ports["triggerer-logs"].port),
        "scheduler.scheduler_health_check_server_host": "127.0.0.1",
        "scheduler.scheduler_health_check_server_port": str(ports["scheduler-health"].port),
    }
    return {
        **airflow_settings.environment_variables(values),
        "AIRFLOW_HOME": str(layout.home),
        "AIRFLOW_CONN_WAREHOUSE": postgres.warehouse_url("postgres"),
        "PYTHONPATH": str(runtime),
        # A snapshot never changes: bytecode must not be written into it.
        "PYTHONDONTWRITEBYTECODE": "1",
        "WINDSOCK_DAGS_FOLDER": str(settings.dags_folder.resolve()),
        "WINDSOCK_DAG_PROCESSOR_SOCKET": str(layout.socket(DAG_PROCESSOR_SOCKET)),
        "WINDSOCK_PARSE_MEMORY_MB": str(settings.parse.memory_limit_mb),
    }


def airflow_programs(layout: Layout, venv: Venv, variables: Mapping[str, str]) -> list[Program]:
    """The components of Airflow, for the supervisor."""
    python = str(venv.python)
    # All components share this machine's disk: the log servers of scheduler and triggerer, which
    # Airflow binds to all interfaces, are not needed.
    arguments = {
        "api-server": (),
        "scheduler": ("--skip-serve-logs",),
        "dag-processor": (),
        "triggerer": ("--skip-serve-logs",),
    }
    return [
        Program(
            name=name,
            command=(python, "-m", "windsock.runtime.start", name, *options),
            environment=variables,
            folder=layout.home,
            stop_signal="TERM",
            stop_seconds=10,
            stage=AIRFLOW_STAGE,
        )
        for name, options in arguments.items()
    ]
