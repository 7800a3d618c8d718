from __future__ import annotations

import dataclasses
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cluster.fake_api import CONTEXT, NAMESPACE, FakeApi
from tests.unit.fakes import environment
from tests.unit.sync_process.test_failing_pods import pod as looping_pod
from windsock import events
from windsock.errors import DeadlineExceeded, EnvironmentFailure
from windsock.json_lines import Client, decode, encode
from windsock.sync.protocol import StoreBusy
from windsock.sync.scan import Difference, Entry, Tree
from windsock.sync_process import failing_pods
from windsock.sync_process.control import ControlClient
from windsock.sync_process.service import Service
from windsock.sync_process.settings import VARIABLE, PodSettings, ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

EVENTS_PAGE = (Path(__file__).parents[3] / "docs/events.md").read_text(encoding="utf-8")
ANNA = StoreBusy({"client": "anna@laptop#1", "since": 0.0})

text = st.text()
seconds = st.floats(allow_nan=False, allow_infinity=False)


def settings_of(folder: Path) -> ServiceSettings:
    for name in ("dags", "plugins"):
        (folder / name).mkdir()
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
        further={"plugins": str(folder / "plugins")},
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


class FakeAttempt:
    """A session that finds the folder at one snapshot after another.

    Attributes:
        snapshots: What it finds; the last one stays.
        settles: Whether Airflow parses the last one.
        is_there: Whether the store's agent answers.
        ends: What `run` raises, or None: it returns.
    """

    def __init__(
        self,
        _settings: ServiceSettings,
        on_event: Callable[[events.Event], None],
        on_snapshot: Callable[[Tree, Difference], None],
        *,
        take_over: bool,
    ) -> None:
        self.on_event = on_event
        self.on_snapshot = on_snapshot
        self.takes_over = take_over
        self.snapshots = ["s1"]
        self.settles = True
        self.is_there = True
        self.ends: queue.SimpleQueue[StoreBusy | None] = queue.SimpleQueue()
        self.timeouts: list[float] = []
        self.told: list[list[str]] = []
        self.session = self
        self.notes: list[str] = []

    def run(self) -> None:
        if self.takes_over:
            self.on_event(events.Connected(snapshot=None, pid=1, again=False))
        end = self.ends.get(timeout=20)
        if end is not None:
            raise end

    def stop(self) -> None:
        self.ends.put(None)

    def request_scan(self, *, timeout: float, check: Callable[[], None] = lambda: None) -> str:
        self.timeouts.append(timeout)
        while not self.is_there:
            check()
        snapshot = self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]
        self.on_event(events.CaughtUp(snapshot=snapshot))
        later: events.Event | None = None
        if snapshot != self.snapshots[-1]:  # Another save, before Airflow is done with this one.
            later = events.CaughtUp(snapshot=self.snapshots[0])
        elif self.settles:
            later = events.Settled(snapshot=snapshot, seconds=0.1)
        if later is not None:
            threading.Thread(target=self.on_event, args=(later,)).start()
        return snapshot

    def allow_empty(self) -> None:
        pass

    def tell_settings(self, names: Iterable[str]) -> None:
        self.told.append(sorted(names))


class Rig:
    """A service that runs in a thread."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.attempts: list[FakeAttempt] = []
        self.restarts = 0
        self.restart_error: EnvironmentFailure | None = None
        wanted = dataclasses.replace(settings_of(folder), **settings)
        self.service = Service(wanted, attempt=self._attempt, restart=self._restart)
        self.client = ControlClient(folder / "control.sock")
        self.thread = threading.Thread(target=self.service.run)
        self.thread.start()

    def _attempt(self, *arguments: Any, **options: Any) -> Any:
        self.attempts.append(FakeAttempt(*arguments, **options))
        return self.attempts[-1]

    def _restart(self, _: ServiceSettings) -> None:
        self.restarts += 1
        if self.restart_error is not None:
            raise self.restart_error

    @property
    def attempt(self) -> FakeAttempt:
        return self.attempts[-1]

    def attach(self) -> Iterator[events.Event]:
        attached = self.client.attach()
        assert next(attached) == events.Attached()
        return attached

    def stop(self) -> None:
        self.service.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.stop()


def test_a_barrier_ends_when_airflow_has_what_is_on_disk(rig: Rig) -> None:
    assert rig.client.barrier(timeout=20).snapshot == "s1"


def test_a_barrier_answers_what_its_page_says(rig: Rig, tmp_path: Path) -> None:
    rig.attempt.on_event(events.NotSynced(path="far.py", reason="it leads outside"))
    assert rig.client.barrier(timeout=20).problems == {"far.py": "it leads outside"}
    with Client(tmp_path / "control.sock", timeout=20) as peer:
        peer.send(encode({"request": "barrier", "timeout": 20}))
        answer = decode(next(peer.lines()))
    assert answer is not None
    [row] = [line for line in EVENTS_PAGE.splitlines() if line.startswith("| `barrier` |")]
    assert re.findall("`([^`]+)`", row.split(" | ")[2]) == list(answer)


def test_a_note_that_holds_is_told_to_who_comes_later(rig: Rig) -> None:
    rig.attempt.notes = ["virtiofs reports no changes: /dags is scanned every second"]
    assert rig.client.status()["troubles"] == [
        events.to_json(events.Note(message=rig.attempt.notes[0]))
    ]
    rig.attempt.notes = []
    assert rig.client.status()["troubles"] == []


def test_a_barrier_does_not_pass_over_plugins_that_could_not_be_loaded(rig: Rig) -> None:
    rig.restart_error = EnvironmentFailure("the scheduler ended", "Its last words.")
    plugin = {"plugins/a.py": Entry(kind="file", mode=0o644, size=1, value="1")}
    rig.attempt.on_snapshot(Tree(plugin), Difference(added=tuple(plugin), modified=(), deleted=()))
    with pytest.raises(EnvironmentFailure, match="the restart failed: the scheduler") as failed:
        rig.client.barrier(timeout=20)
    assert "Its last words." in failed.value.hint
    assert [each["type"] for each in rig.client.status()["troubles"]] == ["restart-failed"]


def test_a_folder_of_dags_named_plugins_is_no_plugin_folder(tmp_path: Path) -> None:
    rig = Rig(tmp_path, further={})
    plugin = {"plugins/a.py": Entry(kind="file", mode=0o644, size=1, value="1")}
    changes = Difference(added=tuple(plugin), modified=(), deleted=())
    rig.attempt.on_event(events.Connected(snapshot=None, pid=1, again=False))
    rig.attempt.on_snapshot(Tree(plugin), changes)
    assert rig.client.status()["restarting"] is False
    rig.client.barrier(timeout=20)
    assert rig.restarts == 0
    rig.stop()


def test_a_barrier_follows_the_saves_that_come_meanwhile(rig: Rig) -> None:
    rig.attempt.snapshots = ["s1", "s2", "s3"]
    assert rig.client.barrier(timeout=20).snapshot == "s3"
    timeouts = rig.attempt.timeouts
    assert timeouts == sorted(timeouts, reverse=True)
    assert len(timeouts) == 3


def test_a_barrier_that_takes_too_long_says_what_is_parsed(rig: Rig) -> None:
    rig.attempt.settles = False
    with pytest.raises(DeadlineExceeded, match="the dag-processor has not reported") as caught:
        rig.client.barrier(timeout=0.05)
    assert "invoke logs dag-processor" in caught.value.hint
    rig.attempt.on_event(events.Parsing(snapshot="s1", files=("huge.py",)))
    with pytest.raises(DeadlineExceeded, match=r"still parsing huge\.py"):
        rig.client.barrier(timeout=0.05)


def test_a_barrier_at_a_halt_says_how_to_go_on(rig: Rig) -> None:
    rig.attempt.on_event(events.Halted(reason="the folder is empty"))
    with pytest.raises(EnvironmentFailure, match="the folder is empty") as caught:
        rig.client.barrier(timeout=20)
    assert "--allow-empty" in caught.value.hint
    assert rig.client.allow_empty() == {"allowed": True}


def test_while_somebody_else_syncs_it_waits_until_it_is_taken_over(rig: Rig) -> None:
    attached = rig.attach()
    rig.attempt.ends.put(ANNA)
    assert isinstance(next(attached), events.Busy)
    assert rig.client.status()["busy"].startswith("anna@laptop syncs here")
    with pytest.raises(EnvironmentFailure, match="anna@laptop") as refused:
        rig.client.barrier(timeout=20)
    assert "--take-over" in refused.value.hint
    assert rig.client.take_over().startswith("anna@laptop")
    assert rig.client.take_over() == ""
    assert rig.client.status()["connected"]
    assert [attempt.takes_over for attempt in rig.attempts] == [False, True]


def test_a_service_that_waits_for_a_take_over_can_be_stopped(rig: Rig) -> None:
    attached = rig.attach()
    rig.attempt.ends.put(ANNA)
    assert isinstance(next(attached), events.Busy)
    rig.stop()
    assert len(rig.attempts) == 1


def test_a_stock_dag_processor_is_reported_at_once_and_to_who_comes_later(rig: Rig) -> None:
    attached = rig.attach()
    stock = events.StockProcessor(missing=("fetch_callbacks",))
    rig.attempt.on_event(stock)
    note = next(attached)
    assert isinstance(note, events.Note)
    assert "finds edits by its own clock" in note.message
    rig.attempt.on_event(stock)  # After a cut: no news.
    assert events.to_json(note) in rig.client.status()["troubles"]
    rig.attempt.on_event(events.ProcessorState(snapshot=None, awaited=(), files=()))
    assert rig.client.status()["troubles"] == []


def test_a_barrier_ends_when_the_pod_of_the_dag_processor_crashes_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing_pods, "LOOK_SECONDS", 0.01)
    with FakeApi(tmp_path) as api:
        pod = PodSettings(context=CONTEXT, namespace=NAMESPACE, kubeconfig=api.kubeconfig)
        rig = Rig(tmp_path, pod=pod)
        rig.attempt.is_there = False
        crashing = looping_pod("processor-1", component="dag-processor")
        api.put(crashing)
        with pytest.raises(EnvironmentFailure, match="dag-processor ends again and again"):
            rig.client.barrier(timeout=20)
        monkeypatch.setattr(failing_pods, "LOOK_SECONDS", 10**6)
        rig.attempt.is_there = True
        api.remove(crashing)
        assert rig.client.barrier(timeout=20).snapshot == "s1"
        rig.stop()


def test_a_barrier_waits_until_the_readers_of_a_changed_variable_are_known(rig: Rig) -> None:
    rig.client.settings_changed(["variables/currency"])
    assert rig.attempt.told == [["variables/currency"]]
    with pytest.raises(DeadlineExceeded, match="variables or connections changed"):
        rig.client.barrier(timeout=0.2)
    parsing = events.Parsing(snapshot="s1", files=(), settings=("variables/currency",))
    rig.attempt.on_event(parsing)
    assert rig.client.barrier(timeout=20).snapshot == "s1"


def test_a_barrier_says_why_the_settings_file_cannot_be_used(rig: Rig, tmp_path: Path) -> None:
    environment(tmp_path / "state", socket=tmp_path / "control.sock").save(tmp_path / "state")
    (tmp_path / "airflow_settings.yaml").write_text("airflow: [")
    with pytest.raises(EnvironmentFailure, match=r"airflow_settings.yaml:1: .* no YAML"):
        rig.client.barrier(timeout=20)


def test_a_timeout_that_is_no_number_is_refused(rig: Rig, tmp_path: Path) -> None:
    assert rig.thread.is_alive()
    with Client(tmp_path / "control.sock", timeout=20) as peer:
        peer.send(encode({"request": "barrier", "timeout": "soon"}))
        assert "is no number" in next(peer.lines()).decode()


def test_events_go_to_the_log_and_to_who_is_attached(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = rig.attach()
    note = events.Note(message="polling")
    rig.attempt.on_event(note)
    assert next(attached) == note
    assert events.from_line(capsys.readouterr().out) == note


def test_the_process_imports_the_settings_file_on_a_save_and_ends_on_a_signal(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path)
    environment(tmp_path / "state", socket=tmp_path / "control.sock").save(tmp_path / "state")
    with subprocess.Popen(
        [sys.executable, "-m", "windsock.sync_process.service"],
        env={**os.environ, **settings.as_variable()},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert isinstance(events.from_line(process.stdout.readline()), events.Sent)
            Path(settings.airflow_settings).write_text("airflow: [")
            seen = map(events.from_line, process.stdout)
            assert any(isinstance(event, events.SettingsFailed) for event in seen)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not (tmp_path / "control.sock").exists()
