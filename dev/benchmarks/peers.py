"""Airflow as people run it by hand, to compare with windsock.

Its four components on the same PostgreSQL and in the same venv as ours, with a plain LocalDagBundle
on a folder; or `airflow standalone` as it is. Each has another supervisor, so that nothing
is left running, whatever happens to the benchmark.

Two of Airflow's defaults are changed in the peers' favour: the example DAGs are left out, and no
log server is started on all interfaces of this machine.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.benchmarks.environment import uninterrupted
from dev.benchmarks.observer import Observer
from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.files import private_folder
from windsock.local import ports
from windsock.local.migration import migrate
from windsock.local.postgres import Postgres
from windsock.local.processes import Supervisor
from windsock.local.programs import Program
from windsock.local.secrets import ADMIN, Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

STOCK: dict[str, str] = {}
"""Airflow's own defaults."""

TUNED = {
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "1",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
}
"""What can be had by polling as fast as Airflow lets one."""

COMPONENTS = {
    "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
HEALTHY_WITHIN = 180.0
PORT = 18080
PORTS = {"api": PORT, "postgres": 15433}
LOG_PORTS = {"WORKER_LOG_SERVER_PORT": 18793, "TRIGGER_LOG_SERVER_PORT": 18794}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A peer that is healthy.

    Attributes:
        observer: Looks at it.
        supervisor: Of its processes.
        seconds: From its start until it was healthy.
    """

    observer: Observer
    supervisor: Supervisor
    seconds: float


class Peer:
    """One Airflow by hand.

    Args:
        state: An empty folder.
        python: The interpreter of Airflow's venv.
        dags: Its DAG folder.
        settings: `AIRFLOW__*` variables over the defaults.
    """

    def __init__(
        self, state: Path, *, python: Path, dags: Path, settings: Mapping[str, str]
    ) -> None:
        self._state = private_folder(state)
        self._home = private_folder(state / "airflow")
        self._python = python
        self._dags = dags
        self._settings = settings
        self._secrets = Secrets.ensure(state / "secrets")
        self._ports = {
            name: choice.port
            for name, choice in ports.choose(PORTS, memory=state / "ports.json").items()
        }
        self._inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "INVOKE_", "PYTHON"))
        }
        self._supervisor = Supervisor(
            state, password=self._secrets.supervisor_password, inherited=self._inherited
        )

    def _variables(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._ports['api']}"
        return {
            "AIRFLOW_HOME": str(self._home),
            # `airflow standalone` starts its components by this name.
            "PATH": f"{self._python.parent}{os.pathsep}{self._inherited.get('PATH', os.defpath)}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": self._secrets.fernet_key,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._secrets.users_file),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._ports["api"]),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__SECRET_KEY": self._secrets.api_secret_key,
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets.jwt_secret,
            **self._settings,
        }

    def _program(self, *arguments: str, variables: Mapping[str, str], stop: str) -> Program:
        return Program(
            name=arguments[0],
            command=(str(self._python), "-m", "airflow", *arguments),
            environment=variables,
            folder=self._home,
            stop_signal=stop,
            stop_seconds=15,
            restart=False,
        )

    def _observer(self) -> Observer:
        url = f"http://127.0.0.1:{self._ports['api']}"
        return Observer(url, ADMIN, self._secrets.admin_password)

    def _wait_healthy(self, observer: Observer, names: tuple[str, ...]) -> float:
        def healthy() -> bool:
            self._supervisor.check(*names)
            return observer.healthy()

        try:
            return observer.seconds_until(
                healthy, what="every component healthy", timeout=HEALTHY_WITHIN, interval=0.1
            )
        except DeadlineExceeded as error:
            said = "\n".join(f"{name}:\n{self._supervisor.tail(name, 5)}" for name in names)
            raise DeadlineExceeded(error.message, f"The end of the logs:\n{said}") from None

    def _stop(self) -> None:
        with uninterrupted():
            self._supervisor.shutdown()

    # --- the two ways to run it ---------------------------------------------------------------

    @contextmanager
    def components(self) -> Iterator[Running]:
        """PostgreSQL and the four components, each a process; stopped when left."""
        postgres = Postgres(
            self._state / "postgres" / "data",
            port=self._ports["postgres"],
            secrets=self._secrets,
        )
        variables = {
            **self._variables(),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres.url("asyncpg"),
        }
        with ExitStack() as stack:
            postgres.initialize()
            stack.callback(self._stop)
            programs = [
                self._program(name, *options, variables=variables, stop="TERM")
                for name, options in COMPONENTS.items()
            ]
            self._supervisor.apply([postgres.program(), *programs])
            self._supervisor.start("postgres")
            postgres.wait_ready(check=lambda: self._supervisor.check("postgres"))
            postgres.ensure_databases()
            migrate(self._python, variables={**self._inherited, **variables}, folder=self._home)
            self._supervisor.start(*COMPONENTS)
            observer = stack.enter_context(self._observer())
            seconds = self._wait_healthy(observer, tuple(COMPONENTS))
            yield Running(observer=observer, supervisor=self._supervisor, seconds=seconds)

    @contextmanager
    def standalone(self) -> Iterator[Running]:
        """`airflow standalone` on its SQLite; stopped when left. A second time it starts warm."""
        variables = {
            **self._variables(),
            **{f"AIRFLOW__LOGGING__{name}": str(port) for name, port in LOG_PORTS.items()},
        }
        with ExitStack() as stack:
            for port in LOG_PORTS.values():
                stack.enter_context(_occupied(port))
            stack.callback(self._stop)
            self._supervisor.apply([self._program("standalone", variables=variables, stop="INT")])
            observer = stack.enter_context(self._observer())
            self._supervisor.start("standalone")
            seconds = self._wait_healthy(observer, ("standalone",))
            yield Running(observer=observer, supervisor=self._supervisor, seconds=seconds)


@contextmanager
def _occupied(port: int) -> Iterator[None]:
    """Hold a port without listening: `airflow standalone` would serve logs there to everybody."""
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            raise EnvironmentFailure(
                f"port {port} is busy: {error}", "End what listens there, then run it again."
            ) from error
        yield
