"""What has read Airflow's plugins is restarted when they change: once, and not for nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from tests.unit.fakes import environment
from windsock import events
from windsock.airflow import health
from windsock.airflow.health import AIRFLOW
from windsock.errors import EnvironmentFailure
from windsock.sync.scan import Difference, Entry, Tree
from windsock.sync_process.restarts import LOADED, PluginRestarts, restart_processes

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.local.processes import Supervisor

PATIENCE = 30.0


def tree(plugin: str = "") -> Tree:
    """A DAG file, and a plugin if it has a content."""
    files = {"a.py": "1"} | ({"plugins/calendar.py": plugin} if plugin else {})
    return Tree(
        {path: Entry(kind="file", mode=0o644, size=1, value=v) for path, v in files.items()}
    )


def saved(restarts: PluginRestarts, *paths: str, plugin: str = "") -> None:
    restarts.on_snapshot(tree(plugin), Difference(added=(), modified=paths, deleted=()))


def caught_up(restarts: PluginRestarts, plugin: str = "") -> None:
    saved(restarts, plugin=plugin)


class Rig:
    """Restarts that a test lets go on, and what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.loaded = folder / LOADED
        self.published: list[events.Event] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None
        self.restarts = self.again()

    def again(self) -> PluginRestarts:
        """As a new process would have it."""
        made = PluginRestarts(self._restart, loaded=self.loaded, publish=self.published.append)
        threading.Thread(target=made.run, daemon=True).start()
        return made

    def _restart(self) -> None:
        self.started.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        if self.error is not None:
            raise self.error

    def types(self) -> list[str]:
        return [events.type_of(type(each)) for each in self.published]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_change_of_a_plugin_restarts_and_is_reported(rig: Rig) -> None:
    saved(rig.restarts, "a.py", "plugins/calendar.py")
    assert not rig.restarts.wait(timeout=0)
    rig.go_on.release()
    assert rig.restarts.wait(timeout=PATIENCE)
    assert rig.types() == ["restarting", "restarted"]


def test_other_changes_restart_nothing(rig: Rig) -> None:
    caught_up(rig.restarts, "one")
    saved(rig.restarts, "a.py", "include/plugins/a.py", "plugins.py")
    caught_up(rig.restarts, "one")
    assert rig.restarts.wait(timeout=0)
    assert rig.types() == []


def test_changes_during_a_restart_are_one_more(rig: Rig) -> None:
    saved(rig.restarts, "plugins/a.py")
    assert rig.started.acquire(timeout=PATIENCE)
    saved(rig.restarts, "plugins/b.py", plugin="b")
    saved(rig.restarts, "plugins/c.py", plugin="c")
    rig.go_on.release(2)
    assert rig.restarts.wait(timeout=PATIENCE)
    assert rig.types() == ["restarting", "restarted"] * 2


def test_a_change_that_nobody_could_tell_of_is_found_when_all_is_equal_again(rig: Rig) -> None:
    """A cut, or the end of the process, has come between the store's switch and our word of it."""
    caught_up(rig.restarts, "one")
    for each in (rig.restarts, rig.again()):
        before = len(rig.published)
        rig.go_on.release()
        caught_up(each, f"edited before {before}")
        assert each.wait(timeout=PATIENCE)
        assert rig.types()[before:] == ["restarting", "restarted"]
    caught_up(rig.again(), f"edited before {before}")
    assert len(rig.published) == 4


def test_the_first_plugins_of_an_empty_store_are_found_as_well(rig: Rig) -> None:
    rig.restarts.start_empty()
    rig.go_on.release()
    successor = rig.again()
    caught_up(successor, "one")
    assert successor.wait(timeout=PATIENCE)
    assert rig.types() == ["restarting", "restarted"]


def test_what_others_have_filled_a_store_with_is_loaded_already(rig: Rig) -> None:
    caught_up(rig.restarts, "one")
    assert rig.restarts.wait(timeout=0)
    assert rig.types() == []


def test_a_change_that_was_reported_restarts_once(rig: Rig) -> None:
    caught_up(rig.restarts)
    saved(rig.restarts, "plugins/calendar.py", plugin="one")
    assert rig.started.acquire(timeout=PATIENCE)
    caught_up(rig.restarts, "one")
    rig.go_on.release()
    assert rig.restarts.wait(timeout=PATIENCE)
    caught_up(rig.restarts, "one")
    assert rig.types() == ["restarting", "restarted"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EnvironmentFailure("the scheduler ended", "See its log."), "the scheduler ended"),
        (
            KeyError("airflow"),
            "could not restart what has read the plugins: KeyError('airflow')",
        ),
    ],
)
def test_a_restart_that_fails_is_reported_and_the_next_change_tries_again(
    rig: Rig, error: Exception, message: str
) -> None:
    caught_up(rig.restarts)
    rig.restarts.check()
    rig.error = error
    rig.go_on.release()
    saved(rig.restarts, "plugins/calendar.py", plugin="one")
    assert rig.restarts.wait(timeout=PATIENCE)
    failed = rig.published[-1]
    assert isinstance(failed, events.RestartFailed)
    assert failed.message == message
    with pytest.raises(EnvironmentFailure, match="plugins changed, but the restart failed") as told:
        rig.restarts.check()
    assert message in told.value.message

    rig.error = None
    rig.go_on.release(2)
    saved(rig.restarts, "plugins/calendar.py", plugin="two")
    assert rig.restarts.wait(timeout=PATIENCE)
    rig.restarts.check()
    assert rig.types()[2:] == ["restarting", "restarted"]


def test_one_that_failed_is_made_up_for_by_the_next_process(rig: Rig) -> None:
    caught_up(rig.restarts, "one")
    rig.error = EnvironmentFailure("the scheduler ended")
    rig.go_on.release()
    saved(rig.restarts, "plugins/calendar.py", plugin="two")
    assert rig.restarts.wait(timeout=PATIENCE)
    rig.error = None
    rig.go_on.release()
    successor = rig.again()
    caught_up(successor, "one")  # Undone: but some may have read what it was meanwhile.
    assert successor.wait(timeout=PATIENCE)
    assert rig.types()[2:] == ["restarting", "restarted"]


# --- on this machine ------------------------------------------------------------------------------


class Machine:
    """A supervisor whose programs are restarted at once, and an Airflow that comes back later."""

    def __init__(self, state: str) -> None:
        self.restarted: list[str] = []
        self._state = state
        self._since = datetime.now(UTC) - timedelta(minutes=1)
        self._asked = 0

    def states(self) -> dict[str, Any]:
        return {name: SimpleNamespace(state=self._state, since=self._since) for name in AIRFLOW}

    def restart(self, *names: str) -> None:
        self.restarted += names
        self._since = datetime.now(UTC)

    def check(self, *names: str) -> None:
        assert set(names) == set(AIRFLOW)

    def answer(self, _: httpx.Request) -> httpx.Response:
        """What was killed still counts as healthy, until what came after it has beaten."""
        self._asked += 1
        beat = self._since + timedelta(seconds=2 if self._asked > 2 else -1)
        said = {
            key: {"status": "healthy", f"latest_{key}_heartbeat": beat.isoformat()}
            for key in health.HEALTH_NAMES.values()
        }
        return httpx.Response(200, json=said)

    @property
    def was_waited_for(self) -> bool:
        return self._asked > 2


def restart(machine: Machine, state: Path) -> None:
    with httpx.Client(transport=httpx.MockTransport(machine.answer)) as client:
        restart_processes(state, cast("Supervisor", machine), client, timeout=PATIENCE)


def test_what_runs_is_restarted_and_waited_for(tmp_path: Path) -> None:
    environment(tmp_path, socket=tmp_path / "socket").save(tmp_path)
    machine = Machine("RUNNING")
    restart(machine, tmp_path)
    assert set(machine.restarted) == set(AIRFLOW)
    assert machine.was_waited_for


def test_what_has_not_started_is_not_restarted(tmp_path: Path) -> None:
    machine = Machine("STOPPED")
    restart(machine, tmp_path)
    assert not machine.restarted


def test_while_an_up_is_under_way_that_one_waits(tmp_path: Path) -> None:
    machine = Machine("RUNNING")
    restart(machine, tmp_path)
    assert set(machine.restarted) == set(AIRFLOW)
    assert not machine.was_waited_for
