from __future__ import annotations

import socket
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, Self

import pytest

from windsock.runtime import migration, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


def test_a_triggerer_that_was_never_there_is_not_blamed(database: Database) -> None:
    database.seconds = None
    assert probe.triggerer(DATABASE) == ""


def test_a_database_that_is_away_is_not_the_triggerers_fault(database: Database) -> None:
    database.fails = True
    assert probe.triggerer(DATABASE) == ""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[bytes], dict[str, str]]]:
    """Starts a dag-processor that greets whoever comes with some bytes, or with silence."""
    place = str(tmp_path / "dag-processor.sock")
    over = threading.Event()
    threads: list[threading.Thread] = []

    def listen(greeting: bytes | None) -> dict[str, str]:
        server = socket.socket(socket.AF_UNIX)
        server.bind(place)
        server.listen()

        def serve() -> None:
            with server:
                peer, _ = server.accept()
                with peer:
                    if greeting is None:
                        over.wait(20)
                    else:
                        peer.sendall(greeting)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return {probe.SOCKET_VARIABLE: place}

    yield listen
    over.set()
    for thread in threads:
        thread.join()


def test_a_dag_processor_that_greets_lives(listening: Any) -> None:
    assert probe.dag_processor(listening(b'{"type": "hello"}\n')) == ""


def test_a_dag_processor_that_is_silent_hangs(listening: Any) -> None:
    assert "does not answer" in probe.dag_processor(listening(None), timeout=0.05)


def test_a_dag_processor_that_hangs_up_hangs(listening: Any) -> None:
    assert "hangs up" in probe.dag_processor(listening(b""))


def test_a_dag_processor_that_does_not_listen_hangs(tmp_path: Path) -> None:
    variables = {probe.SOCKET_VARIABLE: str(tmp_path / "nothing.sock")}
    assert "does not answer" in probe.dag_processor(variables)


def test_a_component_that_hangs_ends_the_probe_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(probe.SOCKET_VARIABLE, str(tmp_path / "nothing.sock"))
    monkeypatch.setattr(sys, "argv", ["probe", "dag-processor"])
    with pytest.raises(SystemExit, match="dag-processor: it does not answer"):
        probe.main()
