"""Whether a component is alive, asked from outside of it: `python -m windsock.runtime.probe NAME`.

Airflow's own `airflow jobs check` imports all of Airflow for that, four CPU seconds at each call.
This module reads the triggerer's heartbeat from the database, and asks the dag-processor on its
socket: a twentieth of a CPU second. Exit code 1 means that the component hangs. Where the database
does not answer, the triggerer does not count as hung: a restart would not help.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from windsock.runtime.migration import CONNECT_SECONDS, URL_VARIABLE, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_VARIABLE = "WINDSOCK_DAG_PROCESSOR_SOCKET"

LATE_SECONDS = 60.0
"""A triggerer writes its heartbeat every 5 s; Airflow itself calls it unhealthy after 30."""

ANSWER_SECONDS = 15.0
"""The dag-processor looks at its socket in each pass of its loop, which takes seconds when many
files are stored."""

HEARTBEAT = """
select extract(epoch from now() - max(latest_heartbeat))
from job where job_type = 'TriggererJob' and state = 'running'
"""


def triggerer(environment: Mapping[str, str]) -> str:
    """Why the triggerer counts as hung; nothing if it does not, or that is unknown."""
    # Only Airflow's environment has it.
    import psycopg2  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: PLC0415

    url = plain(environment[URL_VARIABLE])
    try:
        connection = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)
        try:
            with connection.cursor() as cursor:
                cursor.execute(HEARTBEAT)
                [[seconds]] = cursor.fetchall()
        finally:
            connection.close()
    except psycopg2.Error:
        return ""
    if seconds is None or seconds <= LATE_SECONDS:
        return ""
    return f"its last heartbeat was {seconds:.0f} s ago"


def dag_processor(environment: Mapping[str, str], *, timeout: float = ANSWER_SECONDS) -> str:
    """Why the dag-processor counts as hung; nothing if it does not."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout)
        try:
            peer.connect(environment[SOCKET_VARIABLE])
            if peer.recv(1):  # It greets each client.
                return ""
        except OSError as error:
            return f"it does not answer on its socket: {error}"
    return "it hangs up on each client"


PROBES = {"triggerer": triggerer, "dag-processor": dag_processor}


def main(name: str, environment: Mapping[str, str]) -> None:
    """Ask a component; exit with the reason if it hangs."""
    if reason := PROBES[name](environment):
        sys.exit(f"{name}: {reason}")


if __name__ == "__main__":
    main(sys.argv[1], os.environ)
