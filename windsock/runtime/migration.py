"""Wait for the database and its migration with a plain read, not with Airflow's own checks.

`airflow db check-migrations` costs seconds of CPU before it asks the first time. Here the version
that the image was built with (a file) is compared with the database's.

Run as `python -m windsock.runtime.migration` it migrates the database, or ends at once if there is
nothing to migrate.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.runtime.importing import import_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEAD_VARIABLE = "WINDSOCK_MIGRATION_HEAD"
"""The file with the migration that the installed Airflow needs; only images have one."""

URL_VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
SECONDS_VARIABLE = "WINDSOCK_DATABASE_SECONDS"
DEFAULT_SECONDS = 300.0
POLL_SECONDS = 0.1
CONNECT_SECONDS = 5


class DatabaseUnreachable(Exception):
    """The database does not answer; the text gives the reason."""


class Refused(Exception):
    """The database refuses the password: waiting does not help."""


def plain(url: str) -> str:
    """A database's address as libpq writes it: SQLAlchemy's names a driver, too."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def _read_heads(url: str) -> frozenset[str]:
    """The migrations that a database is at; none if it is fresh."""
    # Only Airflow's environment has it.
    import psycopg2  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: PLC0415

    try:
        connection = psycopg2.connect(plain(url), connect_timeout=CONNECT_SECONDS)
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        if "authentication failed" in reason:
            raise Refused(reason) from error
        raise DatabaseUnreachable(reason) from error
    try:
        with connection.cursor() as cursor:
            cursor.execute("select version_num from alembic_version")
            return frozenset(row[0] for row in cursor)
    except psycopg2.errors.UndefinedTable:
        return frozenset()
    except psycopg2.OperationalError as error:  # It went down again: a first start does.
        raise DatabaseUnreachable(" ".join(str(error).split())) from error
    finally:
        connection.close()


def wait_for(
    wanted: frozenset[str] | None,
    read: Callable[[], frozenset[str]],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> frozenset[str]:
    """Wait for the database, and print why, once for each reason.

    Args:
        wanted: The migrations that it must be at; None if it need only answer.
        read: Reads the migrations of the database.
        seconds: The longest wait.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.

    Returns:
        The migrations that it is at.
    """
    deadline = clock() + seconds
    printed = ""
    while True:
        try:
            heads = read()
        except DatabaseUnreachable as error:
            reason = f"the database does not answer: {error}"
        except Refused as error:
            sys.exit(f"the database was made with other passwords: {error}")
        else:
            if wanted in (None, heads):
                return heads
            reason = (
                f"the database is not at {', '.join(sorted(wanted or ()))} yet, to which the Job "
                "airflow-migrate brings it"
            )
        if clock() >= deadline:
            sys.exit(f"gave up after {seconds:g} s: {reason}")
        if reason != printed:
            print(f"waiting: {reason}", file=sys.stderr, flush=True)  # noqa: T201 - a pod's log
            printed = reason
        sleep(POLL_SECONDS)


def _wanted_heads(environment: Mapping[str, str]) -> frozenset[str]:
    """The migrations that the installed Airflow needs, as the image's build wrote them down."""
    return frozenset(Path(environment[HEAD_VARIABLE]).read_text(encoding="ascii").split())


def _url(environment: Mapping[str, str]) -> str:
    if URL_VARIABLE not in environment:
        sys.exit(f"{URL_VARIABLE} is not set: is the Secret airflow-secrets complete?")
    return environment[URL_VARIABLE]


def _wait_in_a_pod(environment: Mapping[str, str], wanted: frozenset[str] | None) -> frozenset[str]:
    url = _url(environment)
    seconds = float(environment.get(SECONDS_VARIABLE) or DEFAULT_SECONDS)
    return wait_for(wanted, lambda: _read_heads(url), seconds=seconds)


def wait_if_in_an_image(environment: Mapping[str, str]) -> None:
    """Wait for the migration where another pod does it; elsewhere it is done before the start."""
    if environment.get(HEAD_VARIABLE):
        _wait_in_a_pod(environment, _wanted_heads(environment))


def main() -> None:
    """Bring the database to the installed Airflow's version."""
    wanted = _wanted_heads(os.environ)
    try:
        found = _read_heads(_url(os.environ))
    except (DatabaseUnreachable, Refused):
        # The database starts: meanwhile there is something better to do than to wait.
        import_all("airflow.__main__", ("airflow.cli.commands.db_command",))
        found = _wait_in_a_pod(os.environ, None)
    if found == wanted:
        print(f"nothing to migrate: the database is at {', '.join(sorted(wanted))}")  # noqa: T201 - a pod's log
        return
    import_all("airflow.__main__", ("airflow.cli.commands.db_command",))
    from airflow.__main__ import main as airflow  # noqa: PLC0415 - imported above

    sys.argv = ["airflow", "db", "migrate"]
    airflow()


if __name__ == "__main__":
    main()
