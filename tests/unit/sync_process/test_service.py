from __future__ import annotations

import dataclasses
import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakes import environment
from windsock.airflow import settings_import as importing
from windsock.airflow.settings_import import Changes
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure
from windsock.sync import events
from windsock.sync.protocol import StoreBusy
from windsock.sync.session import Session
from windsock.sync.tree import Difference
from windsock.sync_process import service as service_module
from windsock.sync_process.control import ControlClient
from windsock.sync_process.plugins import PluginRestarts
from windsock.sync_process.service import VARIABLE, Service, ServiceSettings, SettingsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Message = dict[str, Any]

text = st.text()
seconds = st.floats(allow_nan=False, allow_infinity=False)


def _settings(folder: Path) -> ServiceSettings:
    (folder / "dags").mkdir(exist_ok=True)
    return ServiceSettings(
        dags_folder=str(folder / "dags"),
        store=str(folder / "store"),
        processor_socket=str(folder / "processor.sock"),
        control_socket=str(folder / "control.sock"),
        state_folder=str(folder / "state"),
        airflow_settings=str(folder / "airflow_settings.yaml"),
        quiet=0.01,
        longest=0.1,
        keep_snapshots=3,
        maximum_bytes=1000,
    )


@given(
    st.builds(
        ServiceSettings,
        **dict.fromkeys(("dags_folder", "store"), text),
        **dict.fromkeys(("quiet", "longest"), seconds),
    )
)
def test_settings_survive_their_way_through_a_variable(settings: ServiceSettings) -> None:
    variables = settings.as_variable()
    assert list(variables) == [VARIABLE]
    assert ServiceSettings.from_variable(variables) == settings


# --- the settings file ----------------------------------------------------------------------------


class Import:
    """Stands for the import into Airflow: counts, and fails when it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.error: Exception | None = None
        self.changes: Changes | None = Changes()

    def __call__(self, *_: Any, **__: Any) -> Changes | None:
        self.times += 1
        if self.error is not None:
            raise self.error
        return self.changes


class Watched:
    """A settings file that is looked at, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Message] = []
        self.path = folder / "airflow_settings.yaml"
        environment(folder / "state", socket=folder / "control.sock").save(folder / "state")
        self.file = SettingsFile(_settings(folder), self.told.append)

    def look(self) -> list[Message]:
        self.told.clear()
        self.file.look()
        return list(self.told)


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Import:
    fake = Import()
    monkeypatch.setattr(importing, "import_settings", fake)
    return fake


def test_a_settings_file_is_imported_when_it_comes_changes_and_goes(
    tmp_path: Path, imported: Import
) -> None:
    watched = Watched(tmp_path)
    assert watched.look() == []
    for change in (
        lambda: watched.path.write_text("airflow: {}"),
        lambda: watched.path.write_text("airflow: {pools: []}"),
        watched.path.unlink,
    ):
        change()
        assert watched.look() == [{"type": "settings", "summary": ""}]
        assert watched.look() == []
    assert imported.times == 3


def test_what_up_imported_is_not_imported_again(tmp_path: Path, imported: Import) -> None:
    (tmp_path / "airflow_settings.yaml").write_text("airflow: {}")
    assert Watched(tmp_path).look() == []
    assert imported.times == 0


def test_a_save_without_a_change_tells_nothing(tmp_path: Path, imported: Import) -> None:
    watched = Watched(tmp_path)
    imported.changes = None
    watched.path.write_text("airflow: {}")
    assert watched.look() == []


def test_a_settings_file_with_a_mistake_is_told_and_tried_again_on_the_next_save(
    tmp_path: Path, imported: Import
) -> None:
    watched = Watched(tmp_path)
    imported.error = ConfigurationError("line 3: no conn_id", "Add one.")
    watched.path.write_text("airflow: {connections: [{}]}")
    assert watched.look() == [
        {"type": "settings", "error": "line 3: no conn_id", "hint": "Add one."}
    ]
    imported.error = None
    watched.path.write_text("airflow: {}")
    assert watched.look() == [{"type": "settings", "summary": ""}]


def test_a_failure_that_nobody_expected_is_told_too_and_the_looking_goes_on(
    tmp_path: Path, imported: Import
) -> None:
    watched = Watched(tmp_path)
    imported.error = KeyError("conn_id")
    watched.path.write_text("airflow: {connections: [{}]}")
    [told] = watched.look()
    assert told["error"] == "could not import airflow_settings.yaml: KeyError('conn_id')"
    assert "test_service.py" in told["hint"]
    imported.error = None
    watched.path.write_text("airflow: {}")
    assert watched.look() == [{"type": "settings", "summary": ""}]


# --- the barrier ----------------------------------------------------------------------------------


class FakeSession:
    """Finds the folder at one snapshot after another."""

    def __init__(self, service: Service, *snapshots: str, settles: bool = True) -> None:
        self._service = service
        self._snapshots = list(snapshots)
        self._settles = settles
        self.timeouts: list[float] = []
        self.allowed = False

    def request_scan(self, *, timeout: float) -> str:
        self.timeouts.append(timeout)
        snapshot = self._snapshots.pop(0) if len(self._snapshots) > 1 else self._snapshots[0]
        board = self._service._board
        board.take(events.CaughtUp(tree=snapshot))
        if snapshot != self._snapshots[-1]:  # Another save, before Airflow is done with this one.
            threading.Thread(
                target=board.take, args=(events.CaughtUp(tree=self._snapshots[0]),)
            ).start()
        elif self._settles:
            message = {"type": "settled", "snapshot": snapshot, "seconds": 0.1}
            threading.Thread(
                target=board.take, args=(events.ProcessorMessage(message=message),)
            ).start()
        return snapshot

    def allow_empty(self) -> None:
        self.allowed = True

    def run(self, stop: threading.Event) -> None:
        assert stop.wait(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(_settings(tmp_path))
    made._turn.session.close()  # Its agent was never started; a test puts a fake in its place.
    made._server.start()
    yield made
    made._server.close()


def put(service: Service, *snapshots: str, settles: bool = True) -> FakeSession:
    fake = FakeSession(service, *snapshots, settles=settles)
    service._turn.session = fake  # type: ignore[assignment] # the edge that is faked
    return fake


@pytest.fixture
def client(tmp_path: Path) -> ControlClient:
    return ControlClient(tmp_path / "control.sock")


def test_a_barrier_ends_when_airflow_has_what_is_on_disk(
    service: Service, client: ControlClient
) -> None:
    put(service, "s1")
    assert client.barrier(timeout=20).snapshot == "s1"


def test_a_barrier_does_not_pass_over_plugins_that_could_not_be_loaded(
    service: Service, client: ControlClient
) -> None:
    def fail() -> None:
        raise EnvironmentFailure("the scheduler ended", "Its last words.")

    plugins = PluginRestarts(fail, loaded=service._plugins._file, publish=lambda _: None)
    threading.Thread(target=plugins.run, daemon=True).start()
    service._plugins = plugins
    put(service, "s1")
    difference = Difference(added=("plugins/a.py",), modified=(), deleted=())
    plugins.take(
        events.Sent(
            batch=1, tree="s1", difference=difference, content_bytes=1, seconds=0, store_seconds=0
        )
    )
    with pytest.raises(EnvironmentFailure, match="the restart failed: the scheduler") as told:
        client.barrier(timeout=20)
    assert "Its last words." in told.value.hint


def test_a_barrier_follows_the_saves_that_come_meanwhile(
    service: Service, client: ControlClient
) -> None:
    session = put(service, "s1", "s2", "s3")
    assert client.barrier(timeout=20).snapshot == "s3"
    assert session.timeouts == sorted(session.timeouts, reverse=True)
    assert len(session.timeouts) == 3


def test_a_barrier_that_takes_too_long_says_what_is_parsed(
    service: Service, client: ControlClient
) -> None:
    put(service, "s1", settles=False)
    message = {"type": "parsing", "snapshot": "s1", "files": ["huge.py"]}
    service._board.take(events.ProcessorMessage(message=message))
    with pytest.raises(DeadlineExceeded, match=r"still parsing huge\.py"):
        client.barrier(timeout=0.05)


def test_a_dag_processor_that_is_silent_is_named(service: Service, client: ControlClient) -> None:
    put(service, "s1", settles=False)
    with pytest.raises(DeadlineExceeded, match="the dag-processor has not told") as caught:
        client.barrier(timeout=0.05)
    assert "invoke logs dag-processor" in caught.value.hint


def test_a_barrier_at_a_halt_says_how_to_go_on(service: Service, client: ControlClient) -> None:
    put(service, "s1")
    service._board.take(events.Halted(reason="the folder is empty"))
    with pytest.raises(EnvironmentFailure, match="the folder is empty") as caught:
        client.barrier(timeout=20)
    assert "--allow-empty" in caught.value.hint
    assert client.allow_empty() == {"allowed": True}


def test_while_somebody_else_syncs_it_waits_until_it_is_taken_over(
    tmp_path: Path, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = {"client": "anna@laptop#1", "since": 0.0}
    taken: list[bool] = []

    def run(session: Session, stop: threading.Event) -> None:
        session.close()
        taken.append(session._take_over)
        if len(taken) == 1:
            raise StoreBusy(anna)
        session._on_event(events.Connected(tree=None, pid=1, again=False))
        assert stop.wait(20)

    monkeypatch.setattr(Session, "run", run)
    service = Service(_settings(tmp_path))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        attached = client.attach()
        next(attached)
        assert not service._board.wait_connected(timeout=20)
        assert client.status()["held"].startswith("anna@laptop syncs here")
        with pytest.raises(EnvironmentFailure, match="anna@laptop") as refused:
            client.barrier(timeout=20)
        assert "--take-over" in refused.value.hint
        assert client.take_over().startswith("anna@laptop")
        assert client.take_over() == ""
        assert client.status()["connected"]
    finally:
        service.stop()
        thread.join(20)
        attached.close()  # type: ignore[attr-defined] # it is a generator
    assert not thread.is_alive()
    assert taken == [False, True]


def test_a_service_that_waits_for_a_take_over_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(session: Session, _stop: threading.Event) -> None:
        session.close()
        raise StoreBusy({"client": "anna@laptop#1"})

    monkeypatch.setattr(Session, "run", run)
    service = Service(_settings(tmp_path))
    turn = service._turn
    thread = threading.Thread(target=service.run)
    thread.start()
    assert not service._board.wait_connected(timeout=20)
    service.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert service._turn is turn  # No other one was made, only to be thrown away.


def test_a_stock_dag_processor_is_said_at_once_and_to_who_comes_later(
    service: Service, client: ControlClient
) -> None:
    attached = client.attach()
    next(attached)
    stock = {"type": "stock", "missing": ["fetch_callbacks"]}
    service._take(events.ProcessorMessage(message=stock))
    told = next(attached)
    assert told["type"] == "note"
    assert "finds edits by its own clock" in told["message"]
    service._take(events.ProcessorMessage(message=stock))  # After a cut: no news.
    assert told in client.status()["troubles"]
    service._take(
        events.ProcessorMessage(
            message={"type": "hello", "snapshot": None, "awaited": [], "files": {}}
        )
    )
    assert client.status()["troubles"] == []
    service._polling.stop()


def test_events_go_to_the_log_and_to_who_is_attached(
    service: Service, client: ControlClient, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = client.attach()
    next(attached)
    service._board.take(events.Note(message="polling"))
    assert next(attached) == {"type": "note", "message": "polling"}
    assert json.loads(capsys.readouterr().out) == {"type": "note", "message": "polling"}


def test_the_settings_file_is_looked_at_while_it_runs_and_a_signal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: Import
) -> None:
    monkeypatch.setattr(service_module, "SETTINGS_LOOK", 0.001)
    monkeypatch.setenv(VARIABLE, _settings(tmp_path).as_variable()[VARIABLE])
    environment(tmp_path / "state", socket=tmp_path / "control.sock").save(tmp_path / "state")
    looked = threading.Event()

    def look(*_: Any, **__: Any) -> Changes | None:
        looked.set()
        return imported()

    monkeypatch.setattr(importing, "import_settings", look)
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(Session, "run", lambda session, stop: _until(session, stop, tmp_path))
    thread = threading.Thread(target=service_module.main)
    thread.start()
    try:
        assert looked.wait(20)
    finally:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
        thread.join(20)
    assert not thread.is_alive()
    assert signal.SIGINT in handlers
    assert not (tmp_path / "control.sock").exists()


def _until(session: Any, stop: threading.Event, folder: Path) -> None:
    (folder / "airflow_settings.yaml").write_text("airflow: {}")
    assert stop.wait(20)
    session.close()


def test_every_setting_of_the_service_is_used(tmp_path: Path) -> None:
    names = {field.name for field in dataclasses.fields(ServiceSettings)}
    assert names == set(json.loads(_settings(tmp_path).as_variable()[VARIABLE]))
