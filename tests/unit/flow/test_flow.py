from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock, refused
from tests.unit.fakes import (
    SETTLED,
    FakeSync,
    FakeTarget,
    FakeWorkspace,
    KeptConsole,
    environment,
)
from windsock import config, flow
from windsock.cluster.images import image
from windsock.cluster.images.image import Images
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.events import (
    Busy,
    ComponentFailing,
    Note,
    Parsed,
    Refused,
    Resumed,
    Sent,
    SettingsImported,
    Settled,
    to_json,
)
from windsock.flow import bringing_up, dags, following, triggering
from windsock.flow import testing as flow_testing
from windsock.local.locking import state_lock
from windsock.model import ENVIRONMENT_FILE, Environment
from windsock.sync_process.control import ControlClient
from windsock.targets import settings_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BRING_UP = ["lock", "prepare", "deploy", "wait", "unlock"]
TRACE = """Traceback (most recent call last):
  File "/venv/airflow/importer.py", line 9, in load
  File "/home/me/dags/sales.py", line 3, in <module>
    Parm()
NameError: name 'Parm' is not defined
"""


@pytest.fixture
def target(tmp_path: Path, sync: FakeSync) -> FakeTarget:
    return FakeTarget(environment(tmp_path / "state", socket=sync.path))


@pytest.fixture
def work(tmp_path: Path, target: FakeTarget) -> FakeWorkspace:
    return FakeWorkspace.of(tmp_path, target)


@pytest.fixture
def up(work: FakeWorkspace, target: FakeTarget) -> FakeWorkspace:
    """A workspace whose environment is up."""
    target.is_running = True
    target.environment.save(work.settings.state_folder)
    return work


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> FakeAirflow:
    fake = FakeAirflow(
        FakeDag("sales", file="sales.py"),
        FakeDag("old", paused=True, file="old.py"),
        FakeDag("bad", state="failed"),
    )
    clock = VirtualClock()
    for module in (dags, triggering):
        monkeypatch.setattr(module, "airflow_client", lambda _: fake.client(clock))
    return fake


def in_a_thread(action: Callable[[], Any]) -> Callable[[], Any]:
    """Start it; the result gives what it returned or raises what it raised."""
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = action()
        except BaseException as error:  # noqa: BLE001 - handed on
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(20)
        assert not thread.is_alive()
        if "error" in box:
            raise box["error"]
        return box["value"]

    return result


def interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as the saves are followed."""

    def follow(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(bringing_up, "follow", follow)


# --- up -------------------------------------------------------------------------------------------


def test_up_takes_its_steps_in_order_under_the_lock(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    assert flow.up(work, detach=True) == 0
    assert target.verbs == BRING_UP
    assert sync.asked == ["barrier", "status"]
    assert Environment.load(work.settings.state_folder) == target.environment
    assert "1 DAGs parsed" in work.kept.said
    assert target.environment.url in work.kept.said
    assert target.environment.password() not in work.kept.said


def test_up_shows_the_files_that_do_not_import_and_stays_up(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    sync.barrier = {"snapshot": "a", "errors": {"sales.py": TRACE}, "dags": []}
    assert flow.up(work, detach=True) == 0
    assert "✗ /home/me/dags/sales.py:3  NameError: name 'Parm' is not defined" in work.kept.said
    assert target.verbs == BRING_UP


def test_a_first_parse_that_takes_long_does_not_keep_airflow_from_its_users(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    sync.barrier = DeadlineExceeded("still parsing huge.py")
    assert flow.up(work, detach=True) == 0
    assert "still parsing huge.py" in work.kept.said
    assert target.verbs == BRING_UP


def test_a_long_first_parse_is_waited_for_as_long_as_it_gets_on(
    work: FakeWorkspace, sync: FakeSync
) -> None:
    sync.barrier = DeadlineExceeded("still parsing huge.py")
    parsed = iter([400, 800])

    def get_on(name: str) -> None:
        if name == "status" and (count := next(parsed, None)):
            sync.state |= {"parsed": count, "files": 1000, "awaited": ["huge.py"]}
        elif name == "barrier" and sync.state["parsed"] == 800:
            sync.barrier = dict(SETTLED)

    sync.meanwhile = get_on
    assert flow.up(work, detach=True) == 0
    for line in ("400 of 1000 files parsed", "800 of 1000 files parsed", "1 DAGs parsed"):
        assert line in work.kept.said


def test_a_first_parse_that_only_goes_back_and_forth_does_not_get_on(
    work: FakeWorkspace, sync: FakeSync
) -> None:
    sync.barrier = DeadlineExceeded("still parsing huge.py")
    counts = [400, 300] * 9

    def go_back_and_forth(name: str) -> None:
        if name == "status":
            sync.state |= {"parsed": counts.pop(), "files": 1000, "awaited": ["huge.py"]}
        elif not counts:
            sync.barrier = dict(SETTLED)

    sync.meanwhile = go_back_and_forth
    assert flow.up(work, detach=True) == 0
    assert "still parsing huge.py" in work.kept.said


def test_the_first_parse_is_waited_for_without_the_lock(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    locked: list[bool] = []
    sync.meanwhile = lambda _: locked.append(target.is_locked)
    assert flow.up(work, detach=True) == 0
    assert set(locked) == {False}


def test_a_busy_sync_may_take_as_long_as_up_for_the_names_of_the_settings(
    work: FakeWorkspace, sync: FakeSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(
        ControlClient,
        "settings_changed",
        lambda _, names, *, timeout=5.0: waited.append(timeout) if list(names) else None,
    )
    changes = SimpleNamespace(names=lambda: ["variables/a"], summary=lambda: "variables +1")
    monkeypatch.setattr(
        "windsock.airflow.settings_import.import_settings", lambda *_, **__: changes
    )
    assert flow.up(work, detach=True) == 0
    assert waited == [work.settings.up_timeout]
    assert sync.asked == ["barrier", "status"]


def test_up_on_an_emptied_folder_comes_up_so_that_its_hint_can_be_followed(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    sync.barrier = EnvironmentFailure("the sync is halted", "run `invoke sync --allow-empty`")
    sync.state["halted"] = "the DAG folder is empty"
    assert flow.up(work, detach=True) == 0
    assert "--allow-empty" in work.kept.said
    assert target.verbs == BRING_UP


def test_up_fails_if_the_sync_fails(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    sync.barrier = EnvironmentFailure("the sync agent is not connected")
    with pytest.raises(EnvironmentFailure, match="not connected"):
        flow.up(work, detach=True)
    assert target.verbs == [*BRING_UP, "give up"]


@pytest.mark.parametrize("verb", ["prepare", "deploy", "wait"])
@pytest.mark.parametrize("error", [EnvironmentFailure("no disk"), KeyboardInterrupt()])
def test_a_failure_on_the_way_gives_up_under_the_lock(
    work: FakeWorkspace, target: FakeTarget, verb: str, error: BaseException
) -> None:
    target.fails = {verb: error}
    with pytest.raises(type(error)):
        flow.up(work, detach=True)
    assert target.verbs == [*BRING_UP[: BRING_UP.index(verb) + 1], "give up", "unlock"]


@pytest.mark.parametrize("detach", [False, True])
def test_ctrl_c_in_the_moment_in_which_it_is_up_leaves_nothing_running(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync, *, detach: bool
) -> None:
    target.fails["unlock"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        flow.up(work, detach=detach)
    assert target.verbs == [*BRING_UP, "give up"]
    assert sync.asked == []


def test_what_is_up_goes_on_if_its_change_cannot_be_built(
    up: FakeWorkspace, target: FakeTarget
) -> None:
    target.is_running = False  # As the settings want it now.
    target.fails = {"prepare": EnvironmentFailure("no such package")}
    with pytest.raises(EnvironmentFailure):
        flow.up(up, detach=True)
    assert target.verbs == ["lock", "prepare", "unlock"]
    assert "what ran before goes on as it was" in up.kept.said


def test_what_was_stopped_on_the_way_is_not_said_to_go_on(
    up: FakeWorkspace, target: FakeTarget
) -> None:
    target.is_running = False
    described = up.settings.state_folder / ENVIRONMENT_FILE
    target.meanwhile["prepare"] = described.unlink  # Its cluster was made anew.
    target.fails = {"prepare": EnvironmentFailure("no such package")}
    with pytest.raises(EnvironmentFailure):
        flow.up(up, detach=True)
    assert target.verbs == ["lock", "prepare", "give up", "unlock"]
    assert "goes on" not in up.kept.said


def test_settings_that_cannot_be_used_are_such_a_failure_too(
    work: FakeWorkspace, target: FakeTarget, tmp_path: Path
) -> None:
    (tmp_path / "airflow_settings.yaml").write_text("airflow: [")
    with pytest.raises(ConfigurationError):
        flow.up(work, detach=True)
    assert target.verbs[-2:] == ["give up", "unlock"]


def test_somebody_else_who_brings_it_up_is_left_alone(
    work: FakeWorkspace, target: FakeTarget
) -> None:
    target.fails = {"lock": EnvironmentFailure("somebody is bringing it up")}
    with pytest.raises(EnvironmentFailure):
        flow.up(work, detach=True)
    assert target.verbs == ["lock"]


def test_a_dry_run_prints_the_plan_and_does_nothing(
    work: FakeWorkspace, target: FakeTarget
) -> None:
    assert flow.up(work, detach=False, dry_run=True) == 0
    rows = [line.split() for line in work.kept.data.getvalue().splitlines()]
    why = ["it", "is", "new", "about", "60", "s"]
    assert rows == [["make", "prepare", *why], ["make", "deploy", *why]]
    assert "nothing was changed" in work.kept.said
    assert target.verbs == []


def test_a_dry_run_of_what_is_up_says_so(up: FakeWorkspace, target: FakeTarget) -> None:
    assert flow.up(up, detach=True, dry_run=True) == 0
    assert "already up" in up.kept.said
    assert "about" not in up.kept.data.getvalue()
    assert target.verbs == []


def test_up_attaches_to_what_is_up(up: FakeWorkspace, target: FakeTarget) -> None:
    assert flow.up(up, detach=True) == 0
    assert target.verbs == []
    assert "already up" in up.kept.said


@pytest.fixture
def up_elsewhere(up: FakeWorkspace, tmp_path: Path) -> FakeWorkspace:
    """The environment is up with another DAG folder than the settings of now name."""
    (tmp_path / "elsewhere").mkdir()
    settings_record.save(
        config.load({"state": str(tmp_path / "state"), "dags": "elsewhere"}, project=tmp_path), {}
    )
    up.fake.is_running = False  # As the settings want it now.
    return up


def test_up_with_other_settings_is_refused_where_nobody_can_be_asked(
    up_elsewhere: FakeWorkspace, target: FakeTarget, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="up with other settings") as caught:
        flow.up(up_elsewhere, detach=True)
    assert "invoke up --replace" in caught.value.hint
    assert "invoke up --dags elsewhere" in caught.value.hint
    assert f"dags is {tmp_path}/elsewhere, not {tmp_path}/dags" in up_elsewhere.kept.said
    assert target.verbs == []


@pytest.mark.parametrize("yes", [True, False])
def test_up_with_other_settings_asks_first(
    up_elsewhere: FakeWorkspace,
    target: FakeTarget,
    monkeypatch: pytest.MonkeyPatch,
    yes: bool,
) -> None:
    monkeypatch.setattr(KeptConsole, "interactive", True)
    monkeypatch.setattr(KeptConsole, "confirm", lambda *_: yes)
    assert flow.up(up_elsewhere, detach=True) == 0
    assert target.verbs == (BRING_UP if yes else [])
    assert ("left as it is" in up_elsewhere.kept.said) is not yes


@pytest.mark.parametrize("answer", [True, False, None])
def test_up_with_other_variables_asks_where_it_can_and_else_takes_them(
    up: FakeWorkspace,
    target: FakeTarget,
    monkeypatch: pytest.MonkeyPatch,
    answer: bool | None,
) -> None:
    settings_record.save(up.settings, {"AIRFLOW_VAR_OLD": "secret-1"})
    up.fake.is_running = False
    if answer is not None:
        monkeypatch.setattr(KeptConsole, "interactive", True)
        monkeypatch.setattr(KeptConsole, "confirm", lambda *_: answer)
    assert flow.up(up, detach=True) == 0
    assert target.verbs == ([] if answer is False else BRING_UP)
    assert ("variable AIRFLOW_VAR_OLD is another one" in up.kept.said) is (answer is not None)
    assert "secret-1" not in up.kept.said
    assert up.changed_variables() == (["AIRFLOW_VAR_OLD"] if answer is False else [])


def test_up_replaces_the_settings_and_says_so(
    up_elsewhere: FakeWorkspace, target: FakeTarget
) -> None:
    assert flow.up(up_elsewhere, detach=True, replace=True) == 0
    assert target.verbs == BRING_UP
    assert "elsewhere, not" in up_elsewhere.kept.said
    assert up_elsewhere.differences() == []


def test_nobody_is_asked_where_nothing_runs_any_more(
    up_elsewhere: FakeWorkspace, target: FakeTarget
) -> None:
    target.components = []
    assert flow.up(up_elsewhere, detach=True) == 0
    assert target.verbs == BRING_UP


def test_ctrl_c_stops_what_this_up_started(
    work: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts(monkeypatch)
    assert flow.up(work, detach=False) == 0
    assert target.verbs == [*BRING_UP, "end"]


def test_ctrl_c_leaves_what_was_up_before(
    up: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts(monkeypatch)
    assert flow.up(up, detach=False) == 0
    assert target.verbs == []
    assert "left running" in up.kept.said


@pytest.mark.parametrize("was_up", [False, True])
def test_a_change_while_saves_are_followed_is_rebuilt_by_a_fresh_target(
    tmp_path: Path, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, was_up: bool
) -> None:
    requirements = tmp_path / "requirements.txt"
    target.source_files = [requirements]
    target.is_running = was_up
    rebuilt = FakeTarget(target.environment)
    target.make_another = lambda: rebuilt

    def in_background(_: object, look: Callable[[], None]) -> int:
        requirements.write_text("one\n")
        for _look in range(2):
            look()
        return 0

    monkeypatch.setattr(bringing_up, "in_background", in_background)
    assert flow.up(FakeWorkspace.of(tmp_path, target, rebuild="auto"), detach=False) == 0
    assert target.verbs == ([] if was_up else [*BRING_UP, "end"])
    assert rebuilt.verbs == BRING_UP


@pytest.mark.parametrize("detach", [False, True])
def test_a_missing_folder_says_how_to_make_it(
    work: FakeWorkspace, target: FakeTarget, tmp_path: Path, *, detach: bool
) -> None:
    (tmp_path / "dags").rmdir()
    with pytest.raises(ConfigurationError, match="dags does not exist") as caught:
        flow.up(work, detach=detach, dry_run=not detach)
    assert "mkdir -p" in caught.value.hint
    assert "--dags" in caught.value.hint
    folders = FakeWorkspace.of(tmp_path, target, sync={"folders": {"nowhere": "include"}})
    with pytest.raises(ConfigurationError, match="nowhere does not exist") as caught:
        flow.up(folders, detach=detach)
    assert "sync.folders" in caught.value.hint
    assert target.verbs == []


def test_a_failure_while_following_stops_what_this_up_started(
    work: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(*_: Any, **__: Any) -> int:
        raise EnvironmentFailure("the sync process does not answer")

    monkeypatch.setattr(bringing_up, "follow", follow)
    with pytest.raises(EnvironmentFailure):
        flow.up(work, detach=False)
    assert target.verbs == [*BRING_UP, "end"]


def test_a_sync_that_never_comes_back_ends_up_with_a_failure(
    work: FakeWorkspace,
    target: FakeTarget,
    sync: FakeSync,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "RESTART_SECONDS", 0.0)
    log = work.settings.state_folder / "logs" / "sync.log"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback\nMemoryError\n")
    result = in_a_thread(lambda: flow.up(work, detach=False))
    assert sync.attached.wait(20)
    sync.stop()
    assert result() == 3
    assert target.verbs == [*BRING_UP, "end"]
    assert "the sync process is gone" in work.kept.said
    assert "MemoryError" in work.kept.said


# --- following ------------------------------------------------------------------------------------


def test_each_save_is_a_line_until_the_environment_is_stopped(
    up: FakeWorkspace, sync: FakeSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RESTART_SECONDS", 1000.0)  # What was stopped is not waited for.
    result = in_a_thread(lambda: flow.attach(up, allow_empty=False))
    sync.publish(
        Sent(snapshot="b", paths=("sales.py",), count=1, bytes=9, since_save=0.1),
        Parsed(snapshot="b", file="sales.py", dags={"sales": 4}, errors={}, seconds=0.1),
        Settled(snapshot="b", seconds=0.1, since_save=0.2),
    )
    (up.settings.state_folder / "environment.json").unlink()  # As `invoke down` does first.
    sync.stop()
    assert result() == 0
    assert "✓ /home/me/dags/sales.py → sales (4 tasks)  0.20 s" in up.kept.said
    assert "the environment was stopped" in up.kept.said


def test_who_attaches_later_is_told_what_keeps_the_saves_back(
    up: FakeWorkspace, sync: FakeSync
) -> None:
    sync.state["troubles"] = [
        to_json(Busy(reason="anna@laptop syncs here", hint="`invoke sync --take-over`.")),
        {"schema": 1, "type": "from a later version"},
        to_json(Refused(code="no_space", message="the disk is full", retry=1)),
    ]
    result = in_a_thread(lambda: flow.attach(up, allow_empty=False))
    sync.publish(Note(message="one more"))
    for _ in range(2000):
        if "one more" in up.kept.said:  # It comes after the troubles.
            break
        time.sleep(0.01)
    (up.settings.state_folder / "environment.json").unlink()
    sync.stop()
    assert result() == 0
    said = up.kept.said
    assert "✗ anna@laptop syncs here\n" in said
    assert "`invoke sync --take-over`." in said
    assert said.index("the disk is full") < said.index("one more")


def test_a_sync_process_that_is_started_again_is_followed_again(
    up: FakeWorkspace, sync: FakeSync
) -> None:
    result = in_a_thread(lambda: flow.attach(up, allow_empty=False))
    assert sync.attached.wait(20)
    sync.stop()
    sync.start()
    sync.publish(Note(message="after the crash"))
    (up.settings.state_folder / "environment.json").unlink()
    sync.stop()
    assert result() == 0
    assert "! after the crash" in up.kept.said


def test_what_another_command_changes_is_followed_again_however_long_that_takes(
    up: FakeWorkspace, sync: FakeSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RESTART_SECONDS", 0.0)
    result = in_a_thread(lambda: flow.attach(up, allow_empty=False))
    assert sync.attached.wait(20)
    with state_lock(up.settings.state_folder):
        sync.stop()
        for _ in range(2000):
            if "changes the environment; waiting for it" in up.kept.said:
                break
            time.sleep(0.01)
        other = dataclasses.replace(up.fake.environment, dags_folder="/home/me/elsewhere")
        other.save(up.settings.state_folder)
        sync.start()
        assert sync.attached.wait(20)
    sync.publish(Note(message="after the change"))
    (up.settings.state_folder / ENVIRONMENT_FILE).unlink()
    sync.stop()
    assert result() == 0
    assert f"(pid {os.getpid()}) changes the environment" in up.kept.said
    assert "after the change" in up.kept.said


def test_an_up_whose_environment_another_command_stopped_ends_without_a_failure(
    work: FakeWorkspace, target: FakeTarget, sync: FakeSync
) -> None:
    result = in_a_thread(lambda: flow.up(work, detach=False))
    assert sync.attached.wait(20)
    (work.settings.state_folder / ENVIRONMENT_FILE).unlink()
    sync.stop()
    assert result() == 0
    assert "the environment was stopped" in work.kept.said
    assert target.verbs[-1] == "end"


def test_a_take_over_says_from_whom(up: FakeWorkspace, sync: FakeSync) -> None:
    sync.holder = "anna@laptop syncs here"
    result = in_a_thread(lambda: flow.attach(up, allow_empty=False, take_over=True))
    assert sync.attached.wait(20)
    (up.settings.state_folder / "environment.json").unlink()
    sync.stop()
    assert result() == 0
    assert "before: anna@laptop syncs here" in up.kept.said


def test_allow_empty_is_passed_on(up: FakeWorkspace, sync: FakeSync) -> None:
    assert flow.attach(up, allow_empty=True) == 0
    assert sync.asked == ["allow-empty"]


@pytest.mark.parametrize(
    "command",
    [
        lambda work: flow.attach(work, allow_empty=False),
        lambda work: flow.restart(work, component=""),
        lambda work: flow.shell(work, command=["true"]),
        flow.open_ui,
        lambda work: flow.dags_list(work, as_json=False),
        lambda work: flow.dags_errors(work, as_json=False),
        lambda work: flow.settings_export(work, output=""),
    ],
)
def test_what_needs_an_environment_says_how_to_bring_it_up(
    work: FakeWorkspace, command: Callable[[FakeWorkspace], Any]
) -> None:
    with pytest.raises(EnvironmentFailure, match="no environment is up here") as caught:
        command(work)
    assert "invoke up" in caught.value.hint


# --- what is not synced ---------------------------------------------------------------------------

FAR = "/home/me/dags/far.py is not synced: it leads outside"
SLOW = "virtiofs reports no changes: /home/me/dags is scanned every second"


@pytest.fixture
def partly(sync: FakeSync) -> FakeSync:
    """A sync that left out a path, and scans, since before any command came."""
    problems = {"far.py": "it leads outside"}
    sync.state |= {"problems": problems, "troubles": [to_json(Note(message=SLOW))]}
    sync.barrier = {**SETTLED, "problems": problems}
    return sync


def assert_told_once(said: str) -> None:
    assert said.count(FAR) == 1
    assert said.count(SLOW) == 1


def test_a_detached_up_tells_what_is_not_synced(work: FakeWorkspace, partly: FakeSync) -> None:
    assert partly.state["problems"]
    assert flow.up(work, detach=True) == 0
    assert_told_once(work.kept.said)
    assert flow.up(work, detach=True) == 0
    assert "already up" in work.kept.said
    assert work.kept.said.count(FAR) == 2


def test_who_follows_the_saves_is_told_once_what_is_not_synced(
    work: FakeWorkspace, partly: FakeSync
) -> None:
    result = in_a_thread(lambda: flow.up(work, detach=False))
    for _ in range(2000):
        if FAR in work.kept.said:
            break
        time.sleep(0.01)
    (work.settings.state_folder / ENVIRONMENT_FILE).unlink()
    partly.stop()
    assert result() == 0
    assert_told_once(work.kept.said)


def test_status_tells_what_is_not_synced_and_is_no_failure(
    up: FakeWorkspace, partly: FakeSync
) -> None:
    assert flow.status(up, as_json=False) == 0
    assert partly.asked == ["status"]
    assert_told_once(up.kept.data.getvalue())


def test_a_test_run_is_told_first_what_is_not_synced(
    up: FakeWorkspace, partly: FakeSync, runner: FakePytest
) -> None:
    said: list[str] = []
    runner.meanwhile = lambda _: said.append(up.kept.said)
    assert flow.test(up, flow.TestRequest()) == 0
    assert partly.asked == ["status"]
    assert_told_once(said[0])


def test_a_test_run_that_brings_the_environment_up_tells_it_once(
    work: FakeWorkspace, partly: FakeSync, runner: FakePytest
) -> None:
    assert flow.ci(work, junit="") == 0
    assert partly.state["problems"]
    assert len(runner.commands) == 1
    assert_told_once(work.kept.said)


def test_a_deploy_tells_what_is_not_synced(
    tmp_path: Path, cluster: ClusterFake, partly: FakeSync
) -> None:
    work = FakeWorkspace.of(tmp_path, cluster)
    flow.deploy(work)
    assert partly.state["problems"]
    assert_told_once(work.kept.said)


def test_below_the_import_errors_stands_what_is_not_synced(
    up: FakeWorkspace, partly: FakeSync
) -> None:
    assert flow.dags_errors(up, as_json=False) == 0
    assert partly.asked == ["barrier"]
    assert FAR in up.kept.data.getvalue()


# --- looking --------------------------------------------------------------------------------------


def test_status_is_good_only_if_every_component_is(up: FakeWorkspace, target: FakeTarget) -> None:
    assert flow.status(up, as_json=True) == 0
    answer = up.kept.answer
    assert answer["healthy"] is True
    assert answer["url"] == target.environment.url
    assert [item["name"] for item in answer["components"]] == ["sync", "scheduler"]
    assert answer["sync"]["settled"] is True


@pytest.mark.parametrize(
    ("state", "healthy"), [("failed", None), ("running", False), ("starting", None)]
)
def test_status_of_an_unwell_component_is_a_failure(
    up: FakeWorkspace, target: FakeTarget, state: str, healthy: bool | None
) -> None:
    first = target.components[0]
    target.components[0] = type(first)(
        name="sync", state=state, detail="exited too quickly", healthy=healthy
    )
    assert flow.status(up, as_json=False) == WindsockError.exit_code
    assert "✗ sync" in up.kept.data.getvalue()
    assert "exited too quickly" in up.kept.data.getvalue()


def test_status_when_nothing_is_up(work: FakeWorkspace, target: FakeTarget) -> None:
    target.components = []
    assert flow.status(work, as_json=False) == 3
    assert "nothing is up" in work.kept.data.getvalue()
    assert work.kept.said == ""
    work.kept.data.truncate(0)
    work.kept.data.seek(0)
    assert flow.status(work, as_json=True) == 3
    assert work.kept.answer == {
        "healthy": False,
        "target": "local",
        "dags_folder": None,
        "url": None,
        "components": [],
        "sync": None,
    }


def test_status_names_the_target_that_is_meant(
    up: FakeWorkspace, target: FakeTarget, tmp_path: Path
) -> None:
    assert flow.status(up, as_json=False) == 0
    said = up.kept.data.getvalue()
    assert f"target local, DAGs in {target.environment.dags_folder}" in said
    cluster = {"context": "lab", "allowed_contexts": ["lab"]}
    settings = config.load(
        {"target": "context", "state": "none", "cluster": cluster}, project=tmp_path
    )
    meant = dataclasses.replace(up, settings=settings)
    target.components = []
    assert flow.status(meant, as_json=False) == 3
    assert "target: context (context lab, namespace windsock)" in up.kept.data.getvalue()


def test_status_without_a_sync_process_still_shows_the_components(
    up: FakeWorkspace, sync: FakeSync
) -> None:
    sync.stop()
    assert flow.status(up, as_json=False) == 0
    assert "✓ scheduler" in up.kept.data.getvalue()


def test_logs_go_to_stdout(work: FakeWorkspace, target: FakeTarget) -> None:
    flow.logs(work, component="scheduler", follow=True, lines=5)
    assert work.kept.data.getvalue() == "one\ntwo\n"
    flow.logs(work, component="", follow=False, lines=0)
    assert target.asked == [("scheduler", True, 5), (None, False, 0)]


def test_ctrl_c_ends_logs_quietly(work: FakeWorkspace, target: FakeTarget) -> None:
    target.fails = {"logs": KeyboardInterrupt()}
    flow.logs(work, component="", follow=True, lines=5)


def test_a_number_of_lines_below_zero_is_refused(work: FakeWorkspace) -> None:
    with pytest.raises(ConfigurationError, match="--lines is -1"):
        flow.logs(work, component="", follow=False, lines=-1)


@pytest.mark.parametrize(
    "command",
    [
        lambda work: flow.logs(work, component="nope", follow=False, lines=1),
        lambda work: flow.restart(work, component="nope"),
    ],
)
def test_an_unknown_component_is_refused_with_the_known_ones(
    up: FakeWorkspace, command: Callable[[FakeWorkspace], None]
) -> None:
    with pytest.raises(ConfigurationError, match="no component 'nope'") as caught:
        command(up)
    assert "scheduler, sync" in caught.value.hint


def test_restart_names_one_component_or_none(up: FakeWorkspace, target: FakeTarget) -> None:
    flow.restart(up, component="sync")
    flow.restart(up, component="")
    assert target.verbs == ["restart sync", "restart None"]


def test_a_command_in_the_shell_gives_its_own_exit_code(
    up: FakeWorkspace, target: FakeTarget
) -> None:
    assert flow.shell(up, command=["airflow", "info"]) == 7
    assert target.asked == [["airflow", "info"]]


@pytest.mark.parametrize("opens", [True, False])
def test_open_tells_the_address_whether_or_not_there_is_a_browser(
    up: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    opened: list[str] = []

    def open_(url: str) -> bool:
        opened.append(url)
        return opens

    monkeypatch.setattr(webbrowser, "open", open_)
    flow.open_ui(up)
    assert opened == ["http://127.0.0.1:18080"]
    assert opened[0] in up.kept.said
    assert ("no browser" in up.kept.said) is not opens
    assert up.settings.state_folder.name + "/admin-password\n" in up.kept.said
    assert "hush-hush" not in up.kept.said


def test_version_names_the_airflow_of_the_lock(work: FakeWorkspace, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "requirements.lock").write_text("x==1\napache-airflow==9.8.7 \\\n")
    flow.version(work, as_json=True)
    assert work.kept.answer["airflow"] == "9.8.7"


# --- DAGs -----------------------------------------------------------------------------------------


def test_dags_are_listed_with_their_files(up: FakeWorkspace, airflow: FakeAirflow) -> None:
    flow.dags_list(up, as_json=False)
    assert "old    /home/me/dags/old.py    (paused)\n" in up.kept.data.getvalue()
    assert airflow.paths("GET") == ["/api/v2/dags"]


def test_dags_list_as_json(up: FakeWorkspace, airflow: FakeAirflow) -> None:
    flow.dags_list(up, as_json=True)
    assert {row["dag_id"] for row in up.kept.answer} == set(airflow.dags)


@pytest.mark.parametrize("as_json", [True, False])
def test_import_errors_come_after_the_barrier_and_are_the_exit_code(
    up: FakeWorkspace, sync: FakeSync, as_json: bool
) -> None:
    sync.barrier = {"snapshot": "a", "errors": {"sales.py": TRACE}, "dags": []}
    assert flow.dags_errors(up, as_json=as_json) == 1
    assert sync.asked == ["barrier"]
    if as_json:
        assert up.kept.answer == {"sales.py": TRACE}
    else:
        assert "sales.py:3" in up.kept.data.getvalue()
        assert "importer.py" not in up.kept.data.getvalue()


def test_no_import_error_is_exit_code_0(up: FakeWorkspace) -> None:
    assert flow.dags_errors(up, as_json=False) == 0
    assert "all files import (1 DAGs)" in up.kept.data.getvalue()


def trigger(work: FakeWorkspace, dag_id: str = "sales", **changes: Any) -> int:
    options: dict[str, Any] = {"conf": "", "wait": False, "timeout": 5.0, "as_json": True}
    return flow.dags_trigger(work, dag_id=dag_id, **{**options, **changes})


def test_a_run_is_triggered_after_the_barrier(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    assert trigger(up, conf='{"day": 1}') == 0
    assert sync.asked == ["barrier", "hold"]
    assert sync.requests[1]["run_id"] == up.kept.answer["run_id"]
    assert next(iter(airflow.runs.values()))["conf"] == {"day": 1}
    assert up.kept.answer["state"] == "queued"
    assert up.kept.answer["url"].endswith(
        f"/dags/sales/runs/{up.kept.answer['run_id'].replace('+', '%2B').replace(':', '%3A')}"
    )


def test_a_param_of_the_dag_that_does_not_fit_is_the_authors_and_one_of_a_conf_the_commands(
    up: FakeWorkspace, airflow: FakeAirflow
) -> None:
    words = "Invalid input for param day: 'strin' is not valid under any of the given schemas"
    airflow.routes = [
        (method, path, (lambda *_: refused(400, words)) if method == "POST" else handler)
        for method, path, handler in airflow.routes
    ]
    with pytest.raises(DagError, match="param day"):
        trigger(up)
    with pytest.raises(ConfigurationError, match="param day"):
        trigger(up, conf='{"day": 3}')


def test_nothing_is_triggered_if_airflow_does_not_come_as_far_as_the_disk(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    sync.barrier = DeadlineExceeded("still parsing huge.py")
    with pytest.raises(DeadlineExceeded):
        trigger(up)
    assert not airflow.runs


def test_a_dag_is_held_until_its_run_has_ended(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    assert airflow.dags["sales"].file
    assert trigger(up, wait=True) == 0
    assert sync.asked == ["barrier", "hold", "release"]
    held, released = sync.requests[1:]
    assert held["run_id"] == released["owner"] == up.kept.answer["run_id"]


def test_a_run_that_cannot_be_held_does_not_stay_queued(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    def fail(request: str) -> None:
        if request == "hold":
            raise EnvironmentFailure("Airflow is away")

    sync.meanwhile = fail
    with pytest.raises(EnvironmentFailure, match="Airflow is away"):
        trigger(up)
    assert [run["state"] for run in airflow.runs.values()] == ["failed"]


def test_a_run_that_is_not_over_in_time_is_explained_and_stays_held(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    airflow.dags["sales"].looks = 10**9
    airflow.dags["sales"].tasks.append(FakeTask("load", state="scheduled", pool="nope"))
    with pytest.raises(DeadlineExceeded, match="still running after 5 s: load: there is no pool"):
        trigger(up, wait=True)
    assert up.kept.answer["state"] == "running"
    assert [reason["code"] for reason in up.kept.answer["waiting"]] == ["no-pool"]
    assert "release" not in sync.asked


def test_a_dag_that_is_not_there_says_why(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    with pytest.raises(ConfigurationError, match="no DAG 'sale'") as told:
        trigger(up, "sale")
    assert "Did you mean sales?" in told.value.hint
    sync.barrier = {**SETTLED, "errors": {"sales.py": TRACE}}
    with pytest.raises(DagError, match=r"its file .*sales\.py does not import") as broken:
        trigger(up)
    assert "NameError: name 'Parm' is not defined" in broken.value.hint
    assert not airflow.runs


@pytest.mark.parametrize(("dag_id", "code"), [("bad", 1), ("sales", 0)])
def test_a_run_without_a_failed_task_has_a_failure_only_if_it_failed(
    up: FakeWorkspace, airflow: FakeAirflow, dag_id: str, code: int
) -> None:
    assert airflow.dags[dag_id].tasks == []
    assert trigger(up, dag_id, wait=True) == code
    assert ("failure" in up.kept.answer) is bool(code)


def test_tasks_that_failed_in_a_run_that_succeeded_are_shown(
    up: FakeWorkspace, airflow: FakeAirflow
) -> None:
    airflow.dags["sales"].tasks.append(FakeTask("load", state="failed"))
    assert trigger(up, wait=True, as_json=False) == 0
    assert "sales: success, although tasks failed" in up.kept.said
    assert "load: it ended without" in up.kept.said


def test_a_run_that_waits_for_its_pod_says_so(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    airflow.dags["sales"].looks = 10**9
    airflow.dags["sales"].tasks.append(FakeTask("load", state="queued"))
    sync.pods = [{"task_id": "load", "map_index": -1, "why": "its pod may not be made", "hint": ""}]
    with pytest.raises(DeadlineExceeded, match="after 5 s: load: its pod may not be made"):
        trigger(up, wait=True)
    assert [reason["code"] for reason in up.kept.answer["waiting"]] == ["pod"]


def test_a_scheduler_that_ends_again_and_again_ends_the_wait(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow
) -> None:
    airflow.dags["sales"].looks = 10**9
    event = ComponentFailing(component="scheduler", message="it ends again", hint="read its log")
    sync.state = {**sync.state, "troubles": [to_json(event)]}
    with pytest.raises(EnvironmentFailure, match="does not go on: it ends again") as told:
        trigger(up, wait=True, timeout=10**6)
    assert told.value.hint == "read its log"
    assert [reason["code"] for reason in up.kept.answer["waiting"]] == ["failing"]


@pytest.mark.parametrize(
    ("state", "codes"),
    [("deferred", ["triggerer-failing", "deferred"]), ("up_for_retry", ["up-for-retry"])],
)
def test_a_triggerer_that_ends_again_and_again_is_told_first_where_a_task_is_deferred(
    up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow, state: str, codes: list[str]
) -> None:
    airflow.dags["sales"].looks = 10**9
    airflow.dags["sales"].tasks.append(FakeTask("load", state=state))
    event = ComponentFailing(component="triggerer", message="it ends again", hint="read its log")
    sync.state = {**sync.state, "troubles": [to_json(event)]}
    with pytest.raises(DeadlineExceeded, match="after 5 s: "):
        trigger(up, wait=True)
    assert [reason["code"] for reason in up.kept.answer["waiting"]] == codes


def test_a_failed_run_is_explained(up: FakeWorkspace, sync: FakeSync, airflow: FakeAirflow) -> None:
    airflow.dags["bad"].tasks.append(FakeTask("load", state="failed"))
    assert trigger(up, "bad", wait=True) == 1
    assert [task["task"] for task in up.kept.answer["failure"]["tasks"]] == ["load"]
    assert trigger(up, "bad", wait=True, as_json=False) == 1
    assert "load: it ended without an exception" in up.kept.said
    sync.pods = [{"task_id": "load", "map_index": -1, "why": "its pod failed: Evicted"}]
    assert trigger(up, "bad", wait=True, as_json=False) == 1
    assert "load: its pod failed: Evicted" in up.kept.said


def test_waiting_for_a_run_tells_whether_it_succeeded(
    up: FakeWorkspace, airflow: FakeAirflow
) -> None:
    assert airflow.dags
    assert trigger(up, wait=True, as_json=False) == 0
    assert "sales: success" in up.kept.said
    assert trigger(up, "bad", wait=True, as_json=False) == 1
    assert "bad: failed" in up.kept.said


@pytest.mark.parametrize("conf", ["{", "[1]", "3", '"x"'])
def test_a_configuration_that_is_no_json_object_is_refused_before_anything_is_asked(
    up: FakeWorkspace, sync: FakeSync, conf: str
) -> None:
    with pytest.raises(ConfigurationError, match="--conf"):
        trigger(up, conf=conf)
    assert sync.asked == []


def outcome(file: str, *dags: str, error: str = "") -> dict[str, Any]:
    return {
        "file": file,
        "dags": dict.fromkeys(dags, 1),
        "errors": {file: error} if error else {},
        "seconds": 0.5,
    }


def test_a_check_is_of_the_dags_that_are_up(
    up_elsewhere: FakeWorkspace, target: FakeTarget, tmp_path: Path
) -> None:
    found = up_elsewhere.with_dags_of_what_is_up()
    assert found.settings.dags == "elsewhere"
    assert f"DAGs in {tmp_path}/elsewhere: the environment is up" in up_elsewhere.kept.said
    assert found.with_dags_of_what_is_up() is found
    target.components = []  # It was up.
    assert up_elsewhere.with_dags_of_what_is_up() is up_elsewhere


def test_a_check_needs_no_environment_and_tells_every_file(
    work: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.settings.project)
    target.outcomes = [outcome("sales.py", "sales"), outcome("empty.py")]
    assert flow.dags_check(work, as_json=False) == 0
    assert target.verbs == ["prepare", "check"]
    told = work.kept.data.getvalue()
    assert "✓ dags/sales.py: sales  0.50 s" in told
    assert "✓ dags/empty.py: no DAG" in told
    assert "checked: 2 files, 1 DAGs, 0 broken" in told


def test_a_broken_file_fails_the_check(work: FakeWorkspace, target: FakeTarget) -> None:
    target.outcomes = [outcome("a.py", "a"), outcome("b.py", error="b.py: it hangs")]
    assert flow.dags_check(work, as_json=True) == 1
    assert [item["file"] for item in work.kept.answer] == ["a.py", "b.py"]
    assert "2 files, 1 DAGs, 1 broken" in work.kept.said


def test_a_dag_id_that_two_files_define_fails_the_check(
    work: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.settings.project)
    target.outcomes = [outcome("a.py", "same"), outcome("b.py", "same")]
    assert flow.dags_check(work, as_json=False) == 1
    assert "dags/b.py  DAG id 'same' is also defined in dags/a.py" in work.kept.data.getvalue()


def test_a_check_that_is_interrupted_says_what_it_found_until_then(
    work: FakeWorkspace, target: FakeTarget
) -> None:
    missing = "ModuleNotFoundError: No module named 'operators'"
    target.outcomes = [outcome(f"{name}.py", error=missing) for name in "abc"]
    target.fails["check"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        flow.dags_check(work, as_json=False)
    told = work.kept.data.getvalue()
    assert "interrupted; checked until then: 3 files, 0 DAGs, 3 broken" in told
    assert f"✗ 3 files: {missing}" in told


def test_settings_are_exported_to_stdout_or_a_file(
    up: FakeWorkspace, airflow: FakeAirflow, tmp_path: Path
) -> None:
    assert airflow.objects
    flow.settings_export(up, output="")
    flow.settings_export(up, output="out.yaml")
    assert (tmp_path / "out.yaml").read_text() == up.kept.data.getvalue()
    assert "airflow:" in up.kept.data.getvalue()


# --- tests ----------------------------------------------------------------------------------------


class FakePytest:
    """Stands for the child process: records commands, gives the codes it is told to.

    Attributes:
        meanwhile: Called during each run with its number, from 1.
    """

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.meanwhile: Callable[[int], object] = lambda _: None
        self.commands: list[list[str]] = []
        self.folders: list[Path] = []

    def __call__(self, command: list[str], *, folder: Path) -> int:
        self.commands.append(command)
        self.folders.append(folder)
        self.meanwhile(len(self.commands))
        return self.codes.pop(0)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> FakePytest:
    fake = FakePytest(0)
    monkeypatch.setattr(flow_testing, "run_to_its_end", fake)
    return fake


def test_test_brings_the_environment_up_says_so_and_leaves_it_up(
    work: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    assert flow.test(work, flow.TestRequest()) == 0
    assert target.verbs == BRING_UP
    assert "bringing it up first (it stays up)" in work.kept.said
    assert len(runner.commands) == 1


def test_test_uses_what_is_up(
    up: FakeWorkspace, target: FakeTarget, runner: FakePytest, tmp_path: Path
) -> None:
    request = flow.TestRequest(
        paths=("a.py", "b"), keyword="load and not slow", junit="out.xml", parallel=3
    )
    assert flow.test(up, request) == 0
    assert target.verbs == []
    assert target.asked_for_health is False  # An Airflow that does not answer is not waited for.
    assert runner.commands[0][1:] == [
        *("-m", "pytest", f"--windsock-state={up.settings.state_folder}"),
        *("-k", "load and not slow", "--junit-xml=out.xml"),
        *("-n", "3", "--dist", "loadfile", "a.py", "b"),
    ]
    assert runner.folders == [tmp_path]


def test_test_uses_what_is_up_with_the_settings_it_was_brought_up_with(
    up_elsewhere: FakeWorkspace, target: FakeTarget, runner: FakePytest, tmp_path: Path
) -> None:
    (tmp_path / "dags").rmdir()  # The folder of the settings of now need not even be there.
    assert flow.test(up_elsewhere, flow.TestRequest()) == 0
    assert target.verbs == []
    assert len(runner.commands) == 1
    assert "elsewhere, not" in up_elsewhere.kept.said
    assert "used as it is" in up_elsewhere.kept.said


def test_test_uses_what_is_up_although_what_it_is_built_of_has_changed(
    up: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    target.is_running = False  # As its requirements are now.
    assert flow.test(up, flow.TestRequest()) == 0
    assert target.verbs == []
    assert len(runner.commands) == 1
    assert "`invoke up` takes the change" in up.kept.said


def test_test_completes_what_is_up_in_part_with_the_settings_that_it_has(
    up_elsewhere: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    target.components[0] = dataclasses.replace(target.components[0], state="failed")
    assert flow.test(up_elsewhere, flow.TestRequest()) == 0
    assert target.verbs == BRING_UP
    assert up_elsewhere.wanted[-1].dags == "elsewhere"
    assert len(runner.commands) == 1


def test_ci_leaves_what_was_up_before(
    up: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    assert flow.ci(up, junit="report.xml") == 0
    assert target.verbs == []
    assert "it was up before" in up.kept.said
    assert len(runner.commands) == 1


def test_a_shell_and_a_restart_have_the_settings_of_what_is_up(
    up_elsewhere: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, target: FakeTarget
) -> None:
    seen: list[str] = []

    def operations(work: FakeWorkspace) -> FakeTarget:
        seen.append(work.settings.dags)
        return target

    monkeypatch.setattr(FakeWorkspace, "operations", operations)
    flow.shell(up_elsewhere, command=["true"])
    flow.restart(up_elsewhere, component="")
    assert seen == ["elsewhere", "elsewhere"]


def test_test_runs_the_tests_of_the_settings_by_default(
    up: FakeWorkspace, runner: FakePytest, tmp_path: Path
) -> None:
    flow.test(up, flow.TestRequest())
    assert runner.commands[0][-1] == str(tmp_path / "tests/dags")


@pytest.mark.parametrize("code", [1, 2, 5])
def test_the_exit_code_is_pytests(up: FakeWorkspace, runner: FakePytest, code: int) -> None:
    runner.codes = [code]
    assert flow.test(up, flow.TestRequest()) == code


@pytest.mark.parametrize(("code", "expected"), [(5, 0), (1, 1), (0, 0)])
def test_nothing_affected_is_a_success(
    up: FakeWorkspace, runner: FakePytest, code: int, expected: int
) -> None:
    runner.codes = [code]
    assert flow.test(up, flow.TestRequest(affected="main")) == expected
    assert "--affected=main" in runner.commands[0]
    assert ("no test is affected by the changes since main" in up.kept.said) is (code == 5)


class Watch:
    """`invoke test --watch` in a thread, on a fake pytest and a fake sync."""

    def __init__(self, up: FakeWorkspace, sync: FakeSync, runner: FakePytest) -> None:
        self.work = up
        self.sync = sync
        self.runner = runner
        self.tests = up.settings.path(up.settings.tests)
        self.tests.mkdir(parents=True)
        self.result: Callable[[], Any] = lambda: None
        runner.codes = [0, 1, 0, 1]

    def start(self, **options: Any) -> None:
        request = flow.TestRequest(watch=True, **options)
        self.result = in_a_thread(lambda: flow.test(self.work, request))

    def save(self, *snapshots: str) -> None:
        """Saves that Airflow has parsed when the sync is asked next."""
        self.sync.barrier = {**SETTLED, "snapshot": snapshots[-1]}
        self.sync.publish(
            *(
                Sent(snapshot=snapshot, paths=("a.py",), count=1, bytes=9, since_save=0.1)
                for snapshot in snapshots
            )
        )

    def wait_for(self, condition: Callable[[], object]) -> None:
        for _ in range(2000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(self.work.kept.said)

    def wait_for_runs(self, number: int) -> None:
        """Wait until the tests have run so often, and the next save is waited for."""
        self.wait_for(lambda: self.work.kept.said.count("waiting for the next save") == number)
        assert len(self.runner.commands) == number

    def stop(self) -> int:
        """Stop the environment; gives the exit code."""
        (self.work.settings.state_folder / ENVIRONMENT_FILE).unlink()
        self.sync.stop()
        code: int = self.result()
        assert "the environment was stopped" in self.work.kept.said
        return code


@pytest.fixture
def watch(up: FakeWorkspace, sync: FakeSync, runner: FakePytest) -> Watch:
    return Watch(up, sync, runner)


def test_watch_is_attached_before_the_first_run(watch: Watch) -> None:
    watch.runner.meanwhile = lambda number: watch.save("b") if number == 1 else None
    watch.start()
    watch.wait_for_runs(2)
    assert watch.stop() == 1


def test_watch_runs_once_for_all_saves_during_a_run(watch: Watch) -> None:
    watch.runner.meanwhile = lambda number: watch.save(*"bcde") if number == 1 else None
    watch.start()
    watch.wait_for_runs(2)
    watch.save("f")
    watch.wait_for_runs(3)
    assert watch.stop() == 0


def test_watch_runs_once_for_a_save_that_is_sent_because_it_waits_for_it(watch: Watch) -> None:
    watch.start()
    watch.wait_for_runs(1)
    watch.sync.meanwhile = lambda name: watch.save("b", "c") if name == "barrier" else None
    (watch.tests / "test_sales.py").write_text("")
    watch.wait_for_runs(2)
    watch.sync.meanwhile = lambda _: None
    (watch.tests / "test_sales.py").unlink()
    watch.wait_for_runs(3)
    assert watch.stop() == 0


def test_watch_runs_again_when_a_test_file_changes(watch: Watch) -> None:
    def write(number: int) -> None:
        # Of the files that a run leaves behind only the edit of a test starts another one.
        (watch.tests / "seen.json").write_text(str(number))
        (watch.tests / "report.xml").write_text(str(number))
        (watch.tests / "__pycache__").mkdir(exist_ok=True)
        (watch.tests / "__pycache__" / f"{number}.py").write_text("")
        if number == 1:
            (watch.tests / "test_sales.py").write_text("")

    watch.runner.meanwhile = write
    watch.start(junit=str(watch.tests / "report.xml"))
    watch.wait_for_runs(2)
    (watch.tests / "data").mkdir()
    (watch.tests / "data" / "rows.csv").write_text("1,2")
    watch.wait_for_runs(3)
    (watch.tests.parent / "conftest.py").write_text("")
    watch.wait_for_runs(4)
    assert watch.stop() == 1


def test_watch_of_one_file_runs_when_this_one_changes(watch: Watch) -> None:
    (watch.tests / "test_a.py").write_text("")
    watch.start(paths=(f"{watch.tests / 'test_a.py'}::test_one",))
    watch.wait_for_runs(1)
    (watch.tests / "test_a.py").write_text("x = 1")
    watch.wait_for_runs(2)
    assert watch.stop() == 1


def test_watch_runs_when_the_settings_have_changed_something(watch: Watch) -> None:
    watch.start()
    watch.wait_for_runs(1)
    watch.sync.publish(SettingsImported(summary=""), Note(message="nothing"))
    watch.sync.publish(SettingsImported(summary="variables ~1"))
    watch.wait_for_runs(2)
    assert watch.stop() == 1


def test_watch_goes_on_with_a_sync_process_that_is_started_again(watch: Watch) -> None:
    watch.start()
    watch.wait_for_runs(1)
    watch.sync.stop()
    # A save while no sync process ran: the next one has sent it before anybody attaches.
    watch.sync.state["snapshot"] = "b"
    watch.sync.barrier = {**SETTLED, "snapshot": "b"}
    watch.sync.start()
    watch.wait_for_runs(2)
    watch.save("c")
    watch.wait_for_runs(3)
    assert watch.stop() == 0


def test_watch_tells_why_a_save_cannot_be_tested_and_tests_it_later(watch: Watch) -> None:
    watch.start()
    watch.wait_for_runs(1)
    watch.save("b")
    watch.wait_for_runs(2)
    watch.sync.barrier = EnvironmentFailure("the sync is halted", "say --allow-empty")
    watch.sync.publish(
        Sent(snapshot="c", paths=("a.py",), count=1, bytes=9, since_save=0.1),
    )
    watch.wait_for(lambda: "the sync is halted" in watch.work.kept.said)
    watch.wait_for(lambda: watch.work.kept.said.count("waiting for the next save") == 3)
    assert len(watch.runner.commands) == 2
    watch.sync.barrier = {**SETTLED, "snapshot": "c"}
    watch.sync.publish(Resumed())
    watch.wait_for(lambda: len(watch.runner.commands) == 3)
    assert watch.stop() == 0


def test_watch_without_a_sync_process_is_a_failure(watch: Watch) -> None:
    watch.sync.stop()
    watch.start()
    assert watch.result() == WindsockError.exit_code
    assert watch.runner.commands == []
    assert "the sync process is gone" in watch.work.kept.said


def test_watch_that_tested_nothing_is_no_success(watch: Watch) -> None:
    watch.sync.barrier = EnvironmentFailure("the sync is halted", "say --allow-empty")
    watch.start()
    watch.wait_for(lambda: "waiting for the next save" in watch.work.kept.said)
    assert watch.stop() == WindsockError.exit_code


CLEANS_UP = """
import pathlib, time
pathlib.Path("started").touch()
try:
    time.sleep(60)
finally:
    pathlib.Path("cleaned").touch()
"""

ENDS_IT = """
import pathlib, signal, sys
from windsock.flow.testing import run_to_its_end
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    run_to_its_end([sys.executable, "-c", sys.argv[1]], folder=pathlib.Path())
except KeyboardInterrupt:
    sys.exit(0 if pathlib.Path("cleaned").exists() else "it has not cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_cleans_up_first(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDS_IT, CLEANS_UP], cwd=tmp_path, start_new_session=True
    ) as outer:
        while not (tmp_path / "started").exists():
            assert outer.poll() is None
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(outer.pid, number)  # As a terminal does it.
        else:
            outer.send_signal(number)
        assert outer.wait(20) == 0


def test_ci_brings_up_tests_and_takes_down(
    work: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    runner.codes = [1]
    assert flow.ci(work, junit="report.xml") == 1
    assert target.verbs == [*BRING_UP, "end"]
    assert "--junit-xml=report.xml" in runner.commands[0]


def test_ci_takes_down_what_failed_to_come_up(
    work: FakeWorkspace, target: FakeTarget, runner: FakePytest
) -> None:
    target.fails = {"wait": EnvironmentFailure("never healthy")}
    with pytest.raises(EnvironmentFailure):
        flow.ci(work, junit="report.xml")
    assert target.verbs[-1] == "end"
    assert runner.commands == []


def test_ci_takes_down_after_an_interrupt(
    work: FakeWorkspace, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(flow_testing, "run_to_its_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flow.ci(work, junit="report.xml")
    assert target.verbs == [*BRING_UP, "end"]


# --- what others deployed, and what is left to others ----------------------------------------


class ClusterFake(FakeTarget):
    """With what only a cluster has."""

    @property
    def parts(self) -> ClusterFake:
        return self

    def leave(self, console: Any) -> None:
        del console
        self._do("leave")

    def ensure_secret(self) -> None:
        self._do("secret")


@pytest.fixture
def cluster(tmp_path: Path, sync: FakeSync, monkeypatch: pytest.MonkeyPatch) -> ClusterFake:
    fake = ClusterFake(environment(tmp_path / "state", socket=sync.path))
    monkeypatch.setattr("windsock.targets.choose.cluster_target", lambda *_, **__: fake)
    monkeypatch.setattr("windsock.targets.cluster.target.ensure_secret", ClusterFake.ensure_secret)
    monkeypatch.setattr(
        "windsock.targets.cluster.target.ensure_variables",
        lambda parts, _console: parts._do("variables"),
    )
    return fake


def test_deploy_leaves_the_environment_once_its_dags_are_parsed(
    tmp_path: Path, cluster: ClusterFake, sync: FakeSync
) -> None:
    flow.deploy(FakeWorkspace.of(tmp_path, cluster))
    assert cluster.verbs == [*BRING_UP, "leave"]
    assert sync.asked == ["barrier", "status", "barrier"]


def test_a_deploy_whose_dags_are_not_parsed_in_time_is_a_failure_that_leaves_nothing_here(
    tmp_path: Path, cluster: ClusterFake, sync: FakeSync
) -> None:
    sync.barrier = DeadlineExceeded("still parsing huge.py")
    with pytest.raises(DeadlineExceeded):
        flow.deploy(FakeWorkspace.of(tmp_path, cluster))
    assert cluster.verbs[-1] == "leave"


def test_a_sync_into_what_others_deployed_applies_nothing_and_removes_nothing(
    tmp_path: Path, cluster: ClusterFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts(monkeypatch)
    assert flow.join(FakeWorkspace.of(tmp_path, cluster)) == 0
    assert cluster.verbs == [*BRING_UP, "end"]


def test_what_a_killed_sync_left_does_not_look_like_one_that_is_up(
    tmp_path: Path, cluster: ClusterFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts(monkeypatch)
    workspace = FakeWorkspace.of(tmp_path, cluster)
    described = workspace.settings.state_folder / ENVIRONMENT_FILE
    described.parent.mkdir(exist_ok=True)
    described.write_text("left behind")
    seen: list[bool] = []
    cluster.meanwhile["deploy"] = lambda: seen.append(described.exists())
    assert flow.join(workspace) == 0
    assert seen == [False]


def test_a_secret_is_made_under_the_lock(tmp_path: Path, cluster: ClusterFake) -> None:
    flow.secret(FakeWorkspace.of(tmp_path, cluster))
    assert cluster.verbs == ["lock", "secret", "variables", "unlock"]


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("registry", ["", "ghcr.io/anna"])
def test_a_build_prints_the_images_and_says_where_they_would_be_pushed(
    tmp_path: Path, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    images = Images(airflow="windsock-airflow:1", postgres="windsock-postgres:2", built=True)
    monkeypatch.setattr(image, "ensure", lambda _, **__: images)
    work = FakeWorkspace.of(tmp_path, target, cluster={"registry": registry})
    flow.build(work)
    assert work.kept.data.getvalue().split() == [images.airflow, images.postgres]
    assert (f"push them to {registry}" in work.kept.said) == bool(registry)
