from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock import events
from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.json_lines import Client, encode
from windsock.sync.protocol import StoreBusy
from windsock.sync.scan import Difference, Entry, Tree
from windsock.sync.session import SyncSession
from windsock.sync_process import service as service_module
from windsock.sync_process.control import ControlClient
from windsock.sync_process.service import Service
from windsock.sync_process.settings import VARIABLE, ServiceSettings
from windsock.sync_process.settings_file import SettingsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        take = self._service._on_event
        take(events.CaughtUp(snapshot=snapshot))
        later: events.Event | None = None
        if snapshot != self._snapshots[-1]:  # Another save, before Airflow is done with this one.
            later = events.CaughtUp(snapshot=self._snapshots[0])
        elif self._settles:
            later = events.Settled(snapshot=snapshot, seconds=0.1)
        if later is not None:
            threading.Thread(target=take, args=(later,)).start()
        return snapshot

    def allow_empty(self) -> None:
        self.allowed = True

    def run(self, stop: threading.Event) -> None:
        assert stop.wait(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(_settings(tmp_path))
    made._attempt.session.close()  # Its agent was never started; a test puts a fake in its place.
    made._server.start()
    yield made
    made._server.close()


def put(service: Service, *snapshots: str, settles: bool = True) -> FakeSession:
    fake = FakeSession(service, *snapshots, settles=settles)
    service._attempt.session = fake  # type: ignore[assignment] # the edge that is faked
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
    service: Service, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise EnvironmentFailure("the scheduler ended", "Its last words.")

    monkeypatch.setattr(service_module, "restart_processes", fail)
    threading.Thread(target=service._restarts.run, daemon=True).start()
    put(service, "s1")
    plugin = {"plugins/a.py": Entry(kind="file", mode=0o644, size=1, value="1")}
    service._on_snapshot(Tree(plugin), Difference(added=tuple(plugin), modified=(), deleted=()))
    with pytest.raises(EnvironmentFailure, match="the restart failed: the scheduler") as told:
        client.barrier(timeout=20)
    assert "Its last words." in told.value.hint
    assert [each["type"] for each in client.status()["troubles"]] == ["restart-failed"]


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
    service._on_event(events.Parsing(snapshot="s1", files=("huge.py",)))
    with pytest.raises(DeadlineExceeded, match=r"still parsing huge\.py"):
        client.barrier(timeout=0.05)


def test_a_dag_processor_that_is_silent_is_named(service: Service, client: ControlClient) -> None:
    put(service, "s1", settles=False)
    with pytest.raises(DeadlineExceeded, match="the dag-processor has not reported") as caught:
        client.barrier(timeout=0.05)
    assert "invoke logs dag-processor" in caught.value.hint


def test_a_barrier_at_a_halt_says_how_to_go_on(service: Service, client: ControlClient) -> None:
    put(service, "s1")
    service._on_event(events.Halted(reason="the folder is empty"))
    with pytest.raises(EnvironmentFailure, match="the folder is empty") as caught:
        client.barrier(timeout=20)
    assert "--allow-empty" in caught.value.hint
    assert client.allow_empty() == {"allowed": True}


def test_while_somebody_else_syncs_it_waits_until_it_is_taken_over(
    tmp_path: Path, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = {"client": "anna@laptop#1", "since": 0.0}
    taken: list[bool] = []

    def run(session: SyncSession, stop: threading.Event) -> None:
        session.close()
        taken.append(session._take_over)
        if len(taken) == 1:
            raise StoreBusy(anna)
        session._on_event(events.Connected(snapshot=None, pid=1, again=False))
        assert stop.wait(20)

    monkeypatch.setattr(SyncSession, "run", run)
    service = Service(_settings(tmp_path))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        attached = client.attach()
        next(attached)
        assert not service._state.wait_connected(timeout=20)
        assert client.status()["busy"].startswith("anna@laptop syncs here")
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
    def run(session: SyncSession, _stop: threading.Event) -> None:
        session.close()
        raise StoreBusy({"client": "anna@laptop#1"})

    monkeypatch.setattr(SyncSession, "run", run)
    service = Service(_settings(tmp_path))
    attempt = service._attempt
    thread = threading.Thread(target=service.run)
    thread.start()
    assert not service._state.wait_connected(timeout=20)
    service.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert service._attempt is attempt  # No other one was made, only to be thrown away.


def test_a_stock_dag_processor_is_reported_at_once_and_to_who_comes_later(
    service: Service, client: ControlClient
) -> None:
    attached = client.attach()
    assert next(attached) == events.Attached()
    stock = events.StockProcessor(missing=("fetch_callbacks",))
    service._on_event(stock)
    note = next(attached)
    assert isinstance(note, events.Note)
    assert "finds edits by its own clock" in note.message
    service._on_event(stock)  # After a cut: no news.
    assert events.to_json(note) in client.status()["troubles"]
    service._on_event(events.ProcessorState(snapshot=None, awaited=(), files=()))
    assert client.status()["troubles"] == []
    service._polling.stop()


def test_a_timeout_that_is_no_number_is_refused(service: Service, tmp_path: Path) -> None:
    put(service, "s1")
    with Client(tmp_path / "control.sock", timeout=20) as peer:
        peer.send(encode({"request": "barrier", "timeout": "soon"}))
        assert "is no number" in next(peer.lines()).decode()


def test_events_go_to_the_log_and_to_who_is_attached(
    service: Service, client: ControlClient, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = client.attach()
    next(attached)
    note = events.Note(message="polling")
    service._on_event(note)
    assert next(attached) == note
    assert events.from_line(capsys.readouterr().out) == note


def test_the_settings_file_is_looked_at_while_it_runs_and_a_signal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    monkeypatch.setattr(service_module, "SETTINGS_LOOK", 0.001)
    monkeypatch.setattr(SettingsFile, "look", lambda _: looked.set())
    monkeypatch.setenv(VARIABLE, _settings(tmp_path).as_variable()[VARIABLE])
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(SyncSession, "run", _until)
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


def _until(session: SyncSession, stop: threading.Event) -> None:
    assert stop.wait(20)
    session.close()
