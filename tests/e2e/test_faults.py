"""Whatever happens: it is told, and afterwards folder, store and Airflow are in step."""

from __future__ import annotations

import io
import json
import os
import re
import threading
import zipfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.e2e.events import Events
from tests.e2e.folder import EXAMPLE_DAGS, Folder, assert_in_step, content_of, dag_source
from tests.e2e.machine import component_pid, kill_9, run_tool
from tests.e2e.project import eventually
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.project import Project
    from windsock.model import ParsedSnapshot

pytestmark = pytest.mark.e2e

MEBIBYTE = 1024 * 1024


# --- DAG files that harm their parser -------------------------------------------------------------

MEMORY = r"MemoryError|out of memory\? The limit is 2048 MiB"
KILLED = "did not end within 10 s, so its parser was killed"

HARMFUL = {
    "loops": ("while True:\n    pass", "DagBag import timeout"),
    "sleeps": ("import time\ntime.sleep(60)", "DagBag import timeout"),
    # As code outside of Python would: Airflow's own timeout, an alarm, does not reach it.
    "hangs": ("import signal\nsignal.signal(signal.SIGALRM, print)\nwhile True:\n    pass", KILLED),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "vanishes": ("import os\nos._exit(7)", "exit code 7 before the import was done"),
    "kills_itself": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "killed by SIGKILL before the import was done",
    ),
    # A real-time signal, for which Python has no name.
    "kills_itself_namelessly": (
        "import os\nos.kill(os.getpid(), 35)",
        "killed by signal 35 before the import was done",
    ),
    # Airflow handles this signal in Python, and returns to the instruction that crashed, for ever.
    "crashes": ("import ctypes\nctypes.string_at(0)", KILLED),
    "eats_memory": (f"hoard = [bytearray({1024 * MEBIBYTE}) for _ in range(8)]", MEMORY),
}
"""Name → what its file does on import, and the error that must be told."""


@pytest.fixture(scope="class")
def harmed(environment: Project) -> Iterator[ParsedSnapshot]:
    """What Airflow makes of all harmful files, saved at once: the timeouts pass side by side."""
    folder = Folder(environment)
    for name in HARMFUL:
        folder.write(f"{name}.py", dag_source(name))
    assert folder.settle().errors == {}
    for name, (top, _) in HARMFUL.items():
        folder.write(f"{name}.py", dag_source(name, top=top))
    try:
        yield folder.settle(timeout=120)
    finally:
        for name in HARMFUL:
            folder.write(f"{name}.py", dag_source(name))
        folder.settle()
        assert_in_step(environment, dags=HARMFUL)  # mended, they are back
        folder.restore()
        folder.settle()


class TestHarmfulImports:
    @pytest.mark.parametrize("name", HARMFUL)
    def test_a_harmful_import_is_told_as_an_import_error(
        self, environment: Project, harmed: ParsedSnapshot, name: str
    ) -> None:
        _, wanted = HARMFUL[name]
        assert re.search(wanted, harmed.errors[f"{name}.py"])
        [shown] = [
            error.traceback
            for error in environment.airflow.import_errors()
            if error.file == f"{name}.py"
        ]
        assert re.search(wanted, shown)

    def test_harmful_imports_leave_all_other_dags_alone(
        self, environment: Project, harmed: ParsedSnapshot
    ) -> None:
        assert sorted(harmed.errors) == sorted(f"{name}.py" for name in HARMFUL)
        assert_in_step(environment, broken=list(harmed.errors))
        run = json.loads(environment.invoke("dags.trigger", "delivery", "--wait", "--json").stdout)
        assert run["state"] == "success"


def test_other_saves_get_through_while_a_file_hangs(environment: Project, folder: Folder) -> None:
    with Events(environment) as events:
        folder.write("hangs.py", dag_source("hangs", top=HARMFUL["hangs"][0]))
        events.wait_for(
            lambda event: event["type"] == "parsing" and "hangs.py" in event["files"],
            "the file that hangs is being parsed",
        )
        folder.write("trade.py", dag_source("trade"))
        events.wait_for(
            lambda event: event["type"] == "parsed" and event["file"] == "trade.py",
            "the other one is parsed",
        )
        assert "hangs.py" not in [event["file"] for event in events.of("parsed")]
        folder.delete("hangs.py")  # it need not be waited for any more
        folder.settle(timeout=20)
    assert_in_step(environment, dags=["trade"])


def test_a_file_that_hangs_is_parsed_at_once_when_it_is_mended(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    """Also when saves have overtaken one parse of it after another: it is not waited for."""
    with Events(environment) as events:
        for number in range(2):
            hangs = tmp_path / f"hangs-{number}"
            top = (
                "import pathlib, time\n"
                f"time.sleep(1.5)\npathlib.Path({str(hangs)!r}).touch()\nwhile True:\n    pass"
            )
            folder.write("hanging.py", dag_source("hanging", top=top))
            eventually(hangs.exists, "the parse has run for a while")
        folder.write("hanging.py", dag_source("hanging", ["mended"]))
        events.wait_for(
            lambda event: event["type"] == "parsed" and event["file"] == "hanging.py",
            "something came of the file",
        )
        folder.settle()
        told = [event for event in events.of("parsed") if event["file"] == "hanging.py"]
    assert not any(event["errors"] for event in told)
    assert_in_step(environment, dags=["hanging"])


# --- files of all sorts ---------------------------------------------------------------------------


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Make a file one that cannot be read, also by root: then something unreadable covers it."""
    if os.geteuid() != 0:
        path.chmod(0)
        yield
        path.chmod(0o644)
        return
    run_tool("mount", "--bind", "/proc/1/mem", str(path))
    try:
        yield
    finally:
        run_tool("umount", str(path))


def test_an_unreadable_file_is_told_and_the_others_are_synced(
    environment: Project, folder: Folder
) -> None:
    folder.save("trade.py", dag_source("trade"))
    path = folder.write("corner_shop/ledger.txt", "a secret")
    folder.settle()
    with Events(environment) as events:
        with unreadable(path):
            folder.save("trade.py", dag_source("trade", ["buy", "sell"]))
            told = events.wait_for(
                lambda event: event["type"] == "not-synced", "the terminal is told of the file"
            )
            assert told["path"] == "corner_shop/ledger.txt"
            assert "cannot be read" in told["reason"]
            status = json.loads(environment.invoke("status", "--json").stdout)
            assert "corner_shop/ledger.txt" in status["sync"]["problems"]
        folder.write("corner_shop/ledger.txt", "public now")
    assert_in_step(environment, dags=["trade"])
    assert json.loads(environment.invoke("status", "--json").stdout)["sync"]["problems"] == {}


def test_a_file_of_200_megabytes_is_synced(environment: Project, folder: Folder) -> None:
    path = folder.path / "corner_shop" / "large.bin"
    block = os.urandom(MEBIBYTE)
    with path.open("wb") as file:
        for _ in range(200):
            file.write(block)
    assert_in_step(environment)
    folder.save("trade.py", dag_source("trade"))  # and is not sent again with the next save
    with Events(environment) as events:
        folder.save("trade.py", dag_source("trade", ["a", "b"]))
        assert sum(event["bytes"] for event in events.of("sent")) < 10_000
    folder.delete("corner_shop/large.bin")
    assert_in_step(environment, dags=["trade"])


def test_five_thousand_files_at_once_are_synced(environment: Project, folder: Folder) -> None:
    # Below a folder that Airflow ignores: it need not look into each.
    for number in range(5000):
        path = folder.path / "corner_shop" / "many" / str(number % 50) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file number {number}\n")
    folder.write("trade.py", dag_source("trade"))
    assert_in_step(environment, dags=["trade"])
    assert len(content_of(environment.state / "store" / "current")) > 5000

    folder.delete("corner_shop/many")
    assert_in_step(environment, dags=["trade"])


def test_a_file_replaced_fifty_times_at_once_ends_as_its_last(
    environment: Project, folder: Folder
) -> None:
    for number in range(50):
        folder.write("trade.py", dag_source("trade", [f"task_{number}"]))
    folder.settle()
    assert_in_step(environment, dags=["trade"])
    assert environment.airflow.tasks("trade") == ["task_49"]


def test_a_file_that_is_emptied_and_then_written_loses_no_dag(
    environment: Project, folder: Folder
) -> None:
    path = folder.write("trade.py", dag_source("trade"))
    folder.settle()
    with Events(environment) as events:
        path.write_text("")
        writer = threading.Timer(0.15, lambda: path.write_text(dag_source("trade", ["a", "b"])))
        writer.start()
        assert "trade" in folder.settle().dags
        writer.join()
        folder.settle()
        assert environment.airflow.tasks("trade") == ["a", "b"]
        assert not events.of("removed")
    assert_in_step(environment, dags=["trade"])


def test_a_folder_named_plugins_among_the_dags_restarts_nothing(
    environment: Project, folder: Folder
) -> None:
    before = component_pid(environment, "scheduler")
    with Events(environment) as events:
        folder.write("plugins/mine.py", "x = 1\n")
        folder.save("trade.py", dag_source("trade", top="from plugins import mine"))
        assert not events.of("restarting")
    assert component_pid(environment, "scheduler") == before
    assert_in_step(environment, dags=["trade"])


def test_a_folder_that_never_rests_is_synced_all_the_same(
    environment: Project, folder: Folder
) -> None:
    stop = threading.Event()

    def scribble() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (folder.path / "corner_shop" / "scribbled.txt").write_text(f"{number}\n" * 1000)

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        with Events(environment) as events:
            folder.write("trade.py", dag_source("trade"))
            events.wait_for(
                lambda event: event["type"] == "parsed" and event["file"] == "trade.py",
                "a save gets through",
            )
    finally:
        stop.set()
        writer.join()
    assert_in_step(environment, dags=["trade"])


def test_a_store_that_takes_no_more_keeps_the_last_state_and_is_told(
    environment: Project, folder: Folder
) -> None:
    # A full disk is in test_lifecycle.py; here the system refuses the agent any file above a size.
    folder.save("trade.py", dag_source("trade", ["a"]))
    agent = psutil.Process(agent_pid(environment))
    before = agent.rlimit(psutil.RLIMIT_FSIZE)
    with environment.start("sync") as terminal, Events(environment) as events:
        terminal.wait_for("watching")
        agent.rlimit(psutil.RLIMIT_FSIZE, (MEBIBYTE, before[1]))
        folder.write("corner_shop/large.bin", os.urandom(2 * MEBIBYTE))
        folder.write("trade.py", dag_source("trade", ["a", "b"]))
        events.wait_for(lambda event: event["type"] == "refused", "the refusal is told")
        terminal.wait_for("the save could not be stored: ")
        terminal.wait_for("It is tried again; nothing is lost")
        assert len(environment.airflow.tasks("trade")) == 1
        with pytest.raises(EnvironmentFailure, match="cannot be written"):
            folder.settle()
        agent.rlimit(psutil.RLIMIT_FSIZE, before)
    assert_in_step(environment, dags=["trade"])
    assert len(environment.airflow.tasks("trade")) == 2


# --- an emptied folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["emptied", "gone"])
def test_an_emptied_folder_halts_the_sync_and_airflow_keeps_its_dags(
    environment: Project, folder: Folder, how: str
) -> None:
    with environment.start("sync") as terminal, Events(environment) as events:
        terminal.wait_for("watching")
        aside = folder.path.with_name("aside")
        folder.path.rename(aside)
        if how == "emptied":
            folder.path.mkdir()
        told = events.wait_for(lambda event: event["type"] == "halted", "it is told")
        assert str(folder.path) in told["reason"]
        terminal.wait_for("sync halted")
        terminal.wait_for("invoke sync --allow-empty")
        assert {dag.dag_id for dag in environment.airflow.dags()} == EXAMPLE_DAGS
        with pytest.raises(EnvironmentFailure, match="halted"):
            folder.settle()
        status = environment.invoke("status")
        assert "halted" in status.stdout + status.stderr

        # The files come back: everything goes on by itself.
        if how == "emptied":
            folder.path.rmdir()
        aside.rename(folder.path)
        events.wait_for(lambda event: event["type"] == "resumed", "it goes on")
        terminal.wait_for("sync goes on")
        folder.save("trade.py", dag_source("trade"))
    assert_in_step(environment, dags=["trade"])


def test_an_emptied_folder_that_is_meant_empties_airflow(
    environment: Project, folder: Folder
) -> None:
    with Events(environment) as events:
        folder.delete(*(path.name for path in folder.path.iterdir()))
        events.wait_for(lambda event: event["type"] == "halted", "it is told")

        done = environment.invoke("sync", "--allow-empty")

        assert done.returncode == 0, done.stderr
        events.wait_for(lambda event: event["type"] == "resumed", "it goes on")
    assert_in_step(environment, examples=[])
    folder.restore()
    assert_in_step(environment)


# --- kill -9 --------------------------------------------------------------------------------------


def agent_pid(environment: Project) -> int:
    [agent] = psutil.Process(component_pid(environment, "sync")).children()
    return int(agent.pid)


def test_an_agent_killed_in_the_middle_of_a_batch_loses_nothing(
    environment: Project, folder: Folder
) -> None:
    folder.save("trade.py", dag_source("trade"))
    incoming = environment.state / "store" / "incoming"
    block = os.urandom(MEBIBYTE)
    with Events(environment) as events:
        # Prepared outside, then moved in: the batch begins when the file is whole.
        large = environment.home / "large.bin"
        with large.open("wb") as file:
            for _ in range(300):
                file.write(block)
        agent = agent_pid(environment)
        before = {path.name for path in incoming.iterdir()}
        large.rename(folder.path / "corner_shop" / "large.bin")
        folder.write("trade.py", dag_source("trade", ["a", "b"]))
        eventually(
            lambda: {path.name for path in incoming.iterdir()} - before,
            "the batch has begun",
            every=0.001,
        )
        kill_9(agent)
        assert not events.of("sent"), "the batch was done before the kill"
        events.wait_for(lambda event: event["type"] == "disconnected", "the cut is told")
        events.wait_for(lambda event: event["type"] == "connected", "the sync is back")
        assert_in_step(environment, dags=["trade"])
    folder.delete("corner_shop/large.bin")
    assert_in_step(environment, dags=["trade"])
    assert len(environment.airflow.tasks("trade")) == 2


def test_a_killed_sync_process_comes_back_and_the_terminal_stays(
    environment: Project, folder: Folder
) -> None:
    with environment.start("sync") as terminal:
        terminal.wait_for("watching")
        kill_9(component_pid(environment, "sync"))
        folder.write("trade.py", dag_source("trade"))  # while nobody watches

        assert_in_step(environment, dags=["trade"])

        def shows_saves() -> bool:
            folder.save("probe.txt", os.urandom(4).hex())
            return any("probe.txt" in line for line in terminal.lines)

        eventually(shows_saves, "the terminal shows saves again", every=0.2)
        terminal.interrupt()
        assert terminal.end() == 0


@pytest.mark.parametrize(
    "components",
    [["dag-processor"], ["api-server", "scheduler", "triggerer"], ["postgres"]],
    ids="+".join,
)
def test_killed_components_come_back(
    environment: Project, folder: Folder, components: list[str]
) -> None:
    before = {name: component_pid(environment, name) for name in components}
    # A fork shares its parent's connection to the database: as long as it lives, so do the locks.
    forks = [fork for pid in before.values() for fork in psutil.Process(pid).children()]
    for pid in before.values():
        kill_9(pid)
    folder.write("trade.py", dag_source("trade"))

    assert_in_step(environment, dags=["trade"], timeout=120)

    def healthy() -> bool:
        return environment.invoke("status").returncode == 0

    eventually(healthy, "everything is healthy again", timeout=120, every=0.5)
    assert all(component_pid(environment, name) != pid for name, pid in before.items())
    eventually(lambda: not any(fork.is_running() for fork in forks), "the old forks have ended")
    run = environment.invoke("dags.trigger", "trade", "--wait")
    assert run.returncode == 0, run.stderr


def test_a_component_that_ends_again_and_again_is_told_with_its_last_words(
    environment: Project, folder: Folder
) -> None:
    with environment.start("sync") as terminal:
        terminal.wait_for("watching")

        supervisor = psutil.Process(component_pid(environment, "sync")).parent()
        assert supervisor is not None

        def is_told() -> bool:
            for process in supervisor.children():
                with suppress(psutil.Error):
                    if process.cmdline()[-1:] == ["dag-processor"]:
                        process.kill()
            return any("dag-processor end" in line for line in terminal.lines)

        eventually(is_told, "the loop is told", every=0.2)
        terminal.wait_for("invoke logs dag-processor")
        with pytest.raises(EnvironmentFailure, match=r"dag-processor end.*SIGKILL"):
            folder.settle()
        status = environment.invoke("status")
        assert status.returncode != 0
        assert "dag-processor end" in status.stdout + status.stderr

        assert environment.invoke("restart", "dag-processor").returncode == 0
        terminal.wait_for("dag-processor works again")
        terminal.interrupt()
        assert terminal.end() == 0
    assert_in_step(environment)


def test_a_killed_supervisor_is_replaced_by_the_next_up(
    environment: Project, folder: Folder
) -> None:
    supervisor = psutil.Process(component_pid(environment, "sync")).parent()
    assert supervisor is not None
    kill_9(supervisor.pid)
    folder.write("trade.py", dag_source("trade"))

    environment.up()

    assert_in_step(environment, dags=["trade"])
    assert environment.invoke("status").returncode == 0


# --- what stands in the folder ------------------------------------------------------------------


def test_what_ends_airflows_search_is_told_and_stops_nothing(
    environment: Project, folder: Folder
) -> None:
    processor = component_pid(environment, "dag-processor")
    rules = folder.path.joinpath(".airflowignore").read_text(encoding="utf-8")
    with environment.start("sync") as terminal:
        terminal.wait_for("watching")
        folder.write("shared/one.py", dag_source("one"))
        folder.path.joinpath("team").mkdir()
        folder.path.joinpath("team/shared").symlink_to("../shared")
        assert "a link leads to shared" in folder.settle().errors["team/shared"]
        terminal.wait_for("team/shared.*a link leads to shared")

        for line in ("!", "helpers\\"):
            folder.save(".airflowignore", f"{rules}\n{line}\n")
            number = len(rules.splitlines()) + 2
            terminal.wait_for(rf"\.airflowignore:{number}  no pattern that Airflow can use")
            assert_in_step(environment, dags=["one"], broken=[".airflowignore", "team/shared"])
        folder.save(".airflowignore", f"{rules}/team/shared\n")
        assert_in_step(environment, dags=["one"])
        terminal.interrupt()
        assert terminal.end() == 0
    assert component_pid(environment, "dag-processor") == processor


def test_what_cannot_be_sent_or_stored_is_an_import_error_with_its_cause(
    environment: Project, folder: Folder
) -> None:
    processor = component_pid(environment, "dag-processor")
    half = "schedule=None, doc_md='\\udcff'"
    log_name = f"{'n' * 252}.py"  # Airflow's log of its parse has 4 letters more.
    folder.write("half.py", dag_source("half").replace("schedule=None", half))
    folder.write("nul.py", dag_source("nul", top="raise ValueError('a\\0b')"))
    folder.write("mute.py", dag_source("mute", top="import os\nos.write(0, bytes(5) * 1000)"))
    folder.path.joinpath(log_name).write_text(dag_source("long_name"), encoding="utf-8")
    folder.write("half.zip", make_zip({"sound.py": dag_source("sound"), "bad.py": NO_MODULE}))
    folder.write("locked.zip", encrypted(make_zip({"locked.py": dag_source("locked")})))
    folder.write("tiny.py", dag_source("tiny"))

    errors = folder.settle().errors

    assert "doc_md holds half a character" in errors["half.py"]
    assert "ValueError: a\\x00b" in errors["nul.py"]
    assert "File name too long" in errors[log_name]
    assert "No module named 'nope'" in errors["half.zip"]
    assert "encrypted" in errors["locked.zip"]
    assert errors.keys() == {
        "half.py",
        "nul.py",
        "mute.py",
        log_name,
        "half.zip",
        "locked.zip",
    }
    assert component_pid(environment, "dag-processor") == processor
    assert "tiny" in [dag.dag_id for dag in environment.airflow.dags()]


NO_MODULE = "import airflow, nope  # a dag"


def make_zip(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def encrypted(archive: bytes) -> bytes:
    """An archive whose first file says that it needs a password."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[changed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


# --- another Airflow ------------------------------------------------------------------------------


@contextmanager
def another_processor(environment: Project, **changes: tuple[str, str]) -> Iterator[None]:
    """A dag-processor of which some modules are changed: module → what, and by what."""
    sources = {
        path: changes[path.stem]
        for name in changes
        for path in (environment.state / "runtime").glob(f"*/windsock/runtime/processor/{name}.py")
    }
    before = {path: path.read_text(encoding="utf-8") for path in sources}
    try:
        for path, text in before.items():
            assert sources[path][0] in text
            path.write_text(text.replace(*sources[path], 1), encoding="utf-8")
        assert environment.invoke("restart", "dag-processor").returncode == 0
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        assert environment.invoke("restart", "dag-processor").returncode == 0


def test_an_airflow_in_which_a_planted_file_does_not_come_through_has_the_stock_pace(
    environment: Project, folder: Folder
) -> None:
    # As Airflow 3.4 does: the method is there, and nothing comes of it.
    unheard = ("def _find_files_in_bundle(", "def _find_files_of_the_past(")
    soon = ("PLANTED_SECONDS = 120.0", "PLANTED_SECONDS = 5.0")
    with (
        environment.start("sync") as terminal,
        another_processor(environment, manager=unheard, planted=soon),
    ):
        terminal.wait_for(r"finds edits by its own clock.* which windsock plants \(not within")
        folder.settle()  # It parses all files once.
        folder.write("trade.py", dag_source("trade"))
        terminal.wait_for(r"✓ \S*trade\.py → trade \(1 task\)")
        terminal.interrupt()
        assert terminal.end() == 0
    folder.delete("trade.py")
    folder.settle()
    assert_in_step(environment)  # No DAG of ours is listed.


def test_an_airflow_without_a_seam_is_found_by_its_own_clock(
    environment: Project, folder: Folder
) -> None:
    missing = ("SEAMS = (", "SEAMS = (\n    'a_seam_of_the_past',")
    with (
        another_processor(environment, manager=missing),
        environment.start("sync") as terminal,
    ):
        terminal.wait_for(r"finds edits by its own clock.* lacks a_seam_of_the_past")
        folder.write("trade.py", dag_source("trade"))
        terminal.wait_for(r"✓ \S*/dags/trade\.py → trade \(1 task\)")
        assert "trade" in folder.settle().dags

        settled = folder.save("trade.py", "import nope\n" + dag_source("trade"))
        assert list(settled.errors) == ["trade.py"]
        terminal.wait_for(r"✗ \S*/dags/trade\.py:1  ModuleNotFoundError")

        folder.save("trade.py", dag_source("trade", ["buy", "sell"]))
        assert len(environment.airflow.tasks("trade")) == 2
        assert_in_step(environment, dags=["trade"])
        terminal.interrupt()
        assert terminal.end() == 0
    folder.delete("trade.py")
    folder.settle()
    assert_in_step(environment)
