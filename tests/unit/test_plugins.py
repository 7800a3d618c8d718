"""What has read Airflow's plugins is restarted when they change: once, and not for nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.unit.fakes import environment
from windsock import plugins
from windsock.airflow import health
from windsock.airflow.health import AIRFLOW
from windsock.errors import EnvironmentFailure
from windsock.plugins import MARK, PluginRestarts, restart_here
from windsock.sync import events
from windsock.sync.tree import Difference

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0


def sent(*paths: str) -> events.Sent:
    return events.Sent(
        batch=1,
        tree="0" * 32,
        difference=Difference(added=(), modified=paths, deleted=()),
        content_bytes=1,
        seconds=0.1,
        store_seconds=0.05,
    )


class Rig:
    """Restarts that a test lets go on, and what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / MARK
        self.told: list[dict[str, Any]] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None
        self.restarts = self.again()

    def again(self) -> PluginRestarts:
        """As a new process would have it."""
        made = PluginRestarts(self._restart, mark=self.mark, publish=self.told.append)
        threading.Thread(target=made.run, daemon=True).start()
        return made

    def _restart(self) -> None:
        self.started.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        if self.error is not None:
            raise self.error

    def types(self) -> list[str]:
        return [each["type"] for each in self.told]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_change_of_a_plugin_restarts_and_tells(rig: Rig) -> None:
    rig.restarts.take(sent("a.py", "plugins/calendar.py"))
    assert not rig.restarts.wait(timeout=0)
    rig.go_on.release()
    assert rig.restarts.wait(timeout=PATIENCE)
    assert rig.types() == ["restarting", "restarted"]
    assert not rig.mark.exists()


def test_other_changes_restart_nothing(rig: Rig) -> None:
    rig.restarts.take(sent("a.py", "include/plugins/a.py", "plugins.py"))
    rig.restarts.take(events.CaughtUp(tree="0" * 32))
    assert rig.restarts.wait(timeout=0)
    assert rig.types() == []


def test_changes_during_a_restart_are_one_more(rig: Rig) -> None:
    rig.restarts.take(sent("plugins/a.py"))
    assert rig.started.acquire(timeout=PATIENCE)
    rig.restarts.take(sent("plugins/b.py"))
    rig.restarts.take(sent("plugins/c.py"))
    rig.go_on.release(2)
    assert rig.restarts.wait(timeout=PATIENCE)
    assert rig.types() == ["restarting", "restarted"] * 2


def test_one_that_fails_is_told_and_left_for_the_next_process(rig: Rig) -> None:
    rig.error = EnvironmentFailure("the scheduler ended", "See its log.")
    rig.go_on.release()
    rig.restarts.take(sent("plugins/a.py"))
    assert rig.restarts.wait(timeout=PATIENCE)
    assert rig.told[-1] == {
        "type": "restart-failed",
        "error": "the scheduler ended",
        "hint": "See its log.",
    }

    rig.error = None
    rig.go_on.release()
    successor = rig.again()
    successor.take(events.CaughtUp(tree="0" * 32))
    assert successor.wait(timeout=PATIENCE)
    assert rig.types()[2:] == ["restarting", "restarted"]
    successor.take(events.CaughtUp(tree="0" * 32))
    assert successor.wait(timeout=0)
    assert not rig.mark.exists()


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


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    made = Machine(getattr(request, "param", "RUNNING"))
    monkeypatch.setattr(plugins, "Supervisor", lambda *_, **__: made)
    client = httpx.Client(transport=httpx.MockTransport(made.answer))
    monkeypatch.setattr(plugins, "loopback_client", lambda: client)
    monkeypatch.setattr(health, "POLL_SECONDS", 0.001)
    return made


def test_what_runs_is_restarted_and_waited_for(machine: Machine, tmp_path: Path) -> None:
    environment(tmp_path, socket=tmp_path / "socket").save(tmp_path)
    restart_here(tmp_path, secrets=tmp_path / "secrets", timeout=PATIENCE)
    assert set(machine.restarted) == set(AIRFLOW)
    assert machine.was_waited_for


@pytest.mark.parametrize("machine", ["STOPPED"], indirect=True)
def test_what_is_yet_to_start_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    restart_here(tmp_path, secrets=tmp_path / "secrets", timeout=PATIENCE)
    assert not machine.restarted


def test_while_an_up_is_on_its_way_that_one_waits(machine: Machine, tmp_path: Path) -> None:
    restart_here(tmp_path, secrets=tmp_path / "secrets", timeout=PATIENCE)
    assert set(machine.restarted) == set(AIRFLOW)
    assert not machine.was_waited_for
