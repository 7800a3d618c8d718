from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any, Self

import pytest

from windsock.json_lines import Connection, Server
from windsock.runtime import migration, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Listen = Callable[[Callable[[Connection], None]], dict[str, str]]

DATABASE = {migration.URL_VARIABLE: "postgresql+psycopg2://airflow:secret@postgres/airflow"}


class Failed(Exception):
    pass


class Database:
    """Stands for psycopg2 and all that it gives."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.fails = False
        self.asked: list[str] = []

    def connect(self, url: str, **_: Any) -> Database:
        self.asked.append(url)
        if self.fails:
            raise Failed
        return self

    def cursor(self) -> Database:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, query: str) -> None:
        self.asked.append(query)

    def fetchall(self) -> list[tuple[float | None]]:
        return [(self.seconds,)]

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database(seconds=3.0)
    module = types.SimpleNamespace(connect=found.connect, Error=Failed)
    monkeypatch.setitem(sys.modules, "psycopg2", module)
    return found


def test_a_triggerer_with_a_fresh_heartbeat_lives(database: Database) -> None:
    assert probe.triggerer(DATABASE) == ""
    assert database.asked[0] == "postgresql://airflow:secret@postgres/airflow"
    assert database.asked[-1] == "closed"


def test_a_triggerer_whose_heartbeat_is_late_hangs(database: Database) -> None:
    database.seconds = 600.0
    assert "600 s ago" in probe.triggerer(DATABASE)


@pytest.mark.parametrize("fails", [True, False])
def test_without_a_database_or_a_heartbeat_a_triggerer_does_not_count_as_hung(
    database: Database, *, fails: bool
) -> None:
    database.seconds, database.fails = None, fails
    assert probe.triggerer(DATABASE) == ""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listen]:
    """Starts a dag-processor that does something for each client that connects."""
    servers: list[Server] = []

    def listen(on_connect: Callable[[Connection], None]) -> dict[str, str]:
        path = tmp_path / "dag-processor.sock"
        servers.append(Server(path, lambda *_: None, on_connect=on_connect))
        servers[-1].start("dag-processor")
        return {probe.SOCKET_VARIABLE: str(path)}

    yield listen
    for server in servers:
        server.stop()


def test_a_dag_processor_that_greets_lives(listening: Listen) -> None:
    assert probe.dag_processor(listening(lambda client: client.send(b"{}\n"))) == ""


def test_a_dag_processor_that_is_silent_hangs(listening: Listen) -> None:
    assert "does not answer" in probe.dag_processor(listening(lambda _: None), timeout=0.05)


def test_a_dag_processor_that_hangs_up_hangs(listening: Listen) -> None:
    assert "hangs up" in probe.dag_processor(listening(Connection.hang_up))


def test_a_dag_processor_that_does_not_listen_ends_the_probe_with_the_reason(
    tmp_path: Path,
) -> None:
    variables = {probe.SOCKET_VARIABLE: str(tmp_path / "nothing.sock")}
    with pytest.raises(SystemExit, match="dag-processor: it does not answer"):
        probe.main("dag-processor", variables)
