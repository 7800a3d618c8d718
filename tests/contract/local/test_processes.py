"""The supervisor, with real processes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from windsock.errors import EnvironmentFailure
from windsock.local import sockets
from windsock.local.orphans import MARK, carries_mark, marked, reap
from windsock.local.processes import Supervisor
from windsock.local.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.local.secrets import Secrets

    Until = Callable[[Callable[[], object]], None]

SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.argv[1:]]))"

# Ignores the polite signal, and so does its child.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print("ready", os.getpid(), flush=True)
time.sleep(600)
"""

# Writes each signal's name down when it gets it, then ends.
POLITE = """
import signal, sys, time
def end(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(0)
for name in ("SIGTERM", "SIGINT"):
    signal.signal(getattr(signal, name), end)
print("ready", flush=True)
time.sleep(600)
"""


def _python(name: str, code: str, *arguments: str, folder: Path, **more: Any) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-c", code, *arguments),
        environment=more.pop("environment", {}),
        folder=folder,
        **more,
    )


def _sleeper(name: str, folder: Path, **more: Any) -> Program:
    return _python(name, "import time; time.sleep(600)", folder=folder, **more)


def _daemon(supervisor: Supervisor, state: Path) -> psutil.Process:
    assert supervisor.alive()  # So it has written its pid file.
    return psutil.Process(int((state / "run" / "supervisor.pid").read_text()))


def test_a_program_gets_exactly_what_it_was_given(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    odd = "100%(here)s 'single' \"double\" ;semicolon #hash\nnewline ✓ \\ $HOME"
    program = _python("show", SHOW, odd, folder=state, environment={"ODD": odd}, restart=False)
    supervisor.apply([program])
    supervisor.start("show")
    until(lambda: supervisor.tail("show"))
    environment, folder, arguments = json.loads(supervisor.tail("show"))
    assert environment["ODD"] == odd
    assert arguments == [odd]
    assert folder == str(state)
    assert environment["PYTHON"] == sys.executable
    assert environment[MARK] == str(state)


def test_no_secret_can_be_read_by_others_or_seen_on_a_command_line(
    supervisor: Supervisor, state: Path, secrets: Secrets, until: Until
) -> None:
    supervisor.apply([_sleeper("web", state, environment={"TOKEN": "hush-hush"})])
    supervisor.start("web")
    until(lambda: supervisor.states()["web"].state == "RUNNING")
    for path in (state / "run").rglob("*"):
        if path.is_symlink() or path.name == "launch.py":
            continue
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_dir() or path.suffix == ".pid" or mode & 0o077 == 0, path
    assert stat.S_IMODE((state / "run").stat().st_mode) == 0o700
    for process in marked(state):
        line = " ".join(process.cmdline())
        assert "hush-hush" not in line
        assert secrets.supervisor_password not in line


def test_a_killed_program_is_started_again(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    supervisor.apply([_sleeper("web", state)])
    supervisor.start("web")
    until(lambda: supervisor.states()["web"].state == "RUNNING")
    before = supervisor.states()["web"].pid
    os.kill(before, signal.SIGKILL)
    until(lambda: supervisor.states()["web"].pid not in (0, before))
    assert supervisor.states()["web"].running


def test_a_program_that_cannot_live_is_told_with_its_last_words(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    dying = _python("web", "raise SystemExit('no such table: dag')", folder=state, start_retries=0)
    supervisor.apply([dying, _sleeper("good", state)])
    supervisor.start("web", "good")
    until(lambda: supervisor.states()["web"].state == "FATAL")
    supervisor.check("good")
    with pytest.raises(EnvironmentFailure, match="web does not run") as caught:
        supervisor.check("good", "web")
    assert "no such table: dag" in caught.value.hint
    assert str(supervisor.log_file("web")) in caught.value.hint


def test_a_program_that_does_not_exist_is_told(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    missing = Program(
        name="web", command=("/no/such/file",), environment={}, folder=state, start_retries=0
    )
    supervisor.apply([missing])
    supervisor.start("web")
    until(lambda: supervisor.states()["web"].state == "FATAL")
    with pytest.raises(EnvironmentFailure) as caught:
        supervisor.check("web")
    assert "/no/such/file" in caught.value.hint or "No such file" in caught.value.hint


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_program_is_stopped_by_its_own_signal(
    supervisor: Supervisor, state: Path, until: Until, name: str
) -> None:
    supervisor.apply([_python("web", POLITE, folder=state, stop_signal=name)])
    supervisor.start("web")
    until(lambda: "ready" in supervisor.tail("web"))
    supervisor.stop("web")
    assert f"got SIG{name}" in supervisor.tail("web")
    assert supervisor.states()["web"].state == "STOPPED"


def test_a_stubborn_program_is_killed_with_its_children(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    supervisor.apply([_python("web", STUBBORN, folder=state, stop_seconds=1)])
    supervisor.start("web")
    until(lambda: supervisor.tail("web").count("ready") == 2)
    pids = [int(line.split()[1]) for line in supervisor.tail("web").splitlines()]
    supervisor.stop("web")
    until(lambda: not any(carries_mark(pid, state) for pid in pids))


def test_only_a_changed_program_is_touched(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    kept, old = _sleeper("kept", state), _sleeper("changed", state, environment={"V": "1"})
    supervisor.apply([kept, old, _sleeper("removed", state)])
    daemon = _daemon(supervisor, state)
    supervisor.start("kept", "changed", "removed")
    before = supervisor.states()
    new = _sleeper("changed", state, environment={"V": "2"})
    supervisor.apply([kept, new, _sleeper("added", state)])
    assert _daemon(supervisor, state) == daemon
    until(lambda: not psutil.pid_exists(before["removed"].pid))
    supervisor.start("kept", "changed", "added")
    after = supervisor.states()
    assert set(after) == {"kept", "changed", "added"}
    assert after["kept"].pid == before["kept"].pid
    assert after["changed"].pid not in (0, before["changed"].pid)
    until(lambda: psutil.Process(after["changed"].pid).environ().get("V") == "2")
    descriptions = {path.name for path in (state / "run" / "programs").iterdir()}
    assert descriptions == {
        Path(program.description_file).name for program in (kept, new, _sleeper("added", state))
    }


def test_another_terminal_restarts_nothing(
    supervisor: Supervisor, state: Path, secrets: Secrets
) -> None:
    program = _sleeper("web", state)
    supervisor.apply([program])
    supervisor.start("web")
    pid = supervisor.states()["web"].pid
    other = Supervisor(
        state, password=secrets.supervisor_password, inherited={"TERM": "another", "PATH": "/bin"}
    )
    other.apply([program])
    assert other.states()["web"].pid == pid


def test_restart_gives_a_new_process(supervisor: Supervisor, state: Path) -> None:
    supervisor.apply([_sleeper("web", state)])
    supervisor.start("web")
    before = supervisor.states()["web"]
    supervisor.restart("web")
    after = supervisor.states()["web"]
    assert after.running
    assert after.pid not in (0, before.pid)
    assert after.since is not None


def test_programs_are_stopped_by_stage(supervisor: Supervisor, state: Path, until: Until) -> None:
    """The database, stage 0, must still be there while its clients say goodbye."""
    asks = POLITE.replace(
        "    sys.exit(0)",
        "    import os\n"
        "    os.kill(int(sys.argv[1]), 0)\n"
        "    print('the database is there', flush=True)\n"
        "    sys.exit(0)",
    )
    supervisor.apply([_sleeper("database", state, stage=0)])
    supervisor.start("database")
    pid = str(supervisor.states()["database"].pid)
    programs = [
        _sleeper("database", state, stage=0),
        *(_python(name, asks, pid, folder=state, stage=1) for name in ("one", "two")),
    ]
    supervisor.apply(programs)
    supervisor.start("one", "two")
    until(lambda: all("ready" in supervisor.tail(name) for name in ("one", "two")))
    supervisor.shutdown()
    for name in ("one", "two"):
        assert "the database is there" in supervisor.tail(name)
        assert "got SIGTERM" in supervisor.tail(name)


def test_after_shutdown_nothing_with_the_mark_is_left(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    escaping = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"  # out of the process group that the supervisor signals
        "print('ready', os.getpid(), flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor.apply([_python("web", escaping, folder=state)])
    supervisor.start("web")
    until(lambda: supervisor.tail("web").count("ready") == 2)
    supervisor.shutdown()
    assert marked(state) == []
    assert not supervisor.alive()
    supervisor.shutdown()


def test_a_killed_supervisor_is_recovered_from(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    program = _sleeper("web", state)
    supervisor.apply([program])
    supervisor.start("web")
    orphan = supervisor.states()["web"].pid
    _daemon(supervisor, state).kill()
    until(lambda: not supervisor.alive())
    until(lambda: carries_mark(orphan, state))  # It may have been turning into its program.
    with pytest.raises(EnvironmentFailure, match="not running"):
        supervisor.states()
    supervisor.apply([program])
    assert not carries_mark(orphan, state)
    supervisor.start("web")
    assert supervisor.states()["web"].running


def test_a_supervisor_with_another_password_is_replaced(
    supervisor: Supervisor, state: Path
) -> None:
    supervisor.apply([_sleeper("web", state)])
    daemon = _daemon(supervisor, state)
    other = Supervisor(state, password="another", inherited={})
    assert not other.alive()
    other.apply([_sleeper("web", state)])
    assert _daemon(other, state).pid != daemon.pid
    assert not supervisor.alive()
    other.shutdown()


def test_the_supervisor_has_a_session_of_its_own(
    supervisor: Supervisor, state: Path, until: Until
) -> None:
    supervisor.apply([_sleeper("web", state)])
    daemon = _daemon(supervisor, state)
    until(lambda: os.getsid(daemon.pid) == daemon.pid)
    assert os.getsid(0) != daemon.pid
    assert daemon.terminal() is None


def test_a_deep_project_works_through_a_short_socket(tmp_path: Path, until: Until) -> None:
    deep = tmp_path / ("deep-" * 20) / ("ß" * 40) / ".windsock"
    deep.mkdir(parents=True)
    supervisor = Supervisor(deep, password="x", inherited={})
    try:
        supervisor.apply([_sleeper("web", deep)])
        supervisor.start("web")
        until(lambda: supervisor.states()["web"].state == "RUNNING")
        assert Supervisor(deep, password="x", inherited={}).alive()
    finally:
        supervisor.shutdown()
    assert not sockets.socket_path(deep / "run", "supervisor.sock").parent.exists()


def test_a_log_is_read_from_its_end(supervisor: Supervisor, state: Path, until: Until) -> None:
    code = "for i in range(50000): print('line', i)"
    supervisor.apply([_python("web", code, folder=state, restart=False)])
    assert supervisor.tail("web") == ""
    supervisor.start("web")
    until(lambda: "line 49999" in supervisor.tail("web", 1))
    assert supervisor.tail("web", 2) == "line 49998\nline 49999"


def test_reaping_spares_whatever_does_not_carry_this_very_mark(
    tmp_path: Path, until: Until
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "mine-too"
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        subprocess.Popen(sleep, env={MARK: str(mine)}) as ours,
        subprocess.Popen(sleep, env={MARK: str(other)}) as neighbour,
        subprocess.Popen(sleep, env={}, cwd=tmp_path) as stranger,
    ):
        try:
            until(lambda: carries_mark(ours.pid, mine))
            reap(mine)
            assert ours.wait() == -signal.SIGTERM
            assert neighbour.poll() is None
            assert stranger.poll() is None
        finally:
            for child in (ours, neighbour, stranger):
                child.kill()


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path, until: Until) -> None:
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-c", STUBBORN], env={MARK: str(tmp_path)}, stdout=file
        ) as child,
    ):
        until(lambda: log.read_text().count("ready") == 2)
        reap(tmp_path, patience=0.1)
        assert child.wait() == -signal.SIGKILL
    assert marked(tmp_path) == []
