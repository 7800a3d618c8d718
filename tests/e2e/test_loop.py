"""Save a file, and Airflow has it: every way in which a folder changes, seen in Airflow's API."""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.events import Events
from tests.e2e.folder import assert_in_step, content_of, dag_source
from tests.e2e.machine import component_pid, run_tool
from tests.e2e.project import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Command, Project

pytestmark = pytest.mark.e2e


def tasks_of(environment: Project, dag_id: str) -> list[str]:
    return sorted(environment.airflow.tasks(dag_id))


# --- DAG files ------------------------------------------------------------------------------------


def test_a_new_file_an_edit_and_a_deletion_each_show_at_once(
    environment: Project, folder: Folder
) -> None:
    top = "import importlib.metadata\nassert importlib.metadata.version('apache-airflow-core')"
    folder.save("trade.py", dag_source("trade", ["buy"], top=top))
    assert_in_step(environment, dags=["trade"])
    assert tasks_of(environment, "trade") == ["buy"]

    folder.save("trade.py", dag_source("trade", ["buy", "sell"]))
    assert tasks_of(environment, "trade") == ["buy", "sell"]

    folder.delete("trade.py")
    folder.settle()
    assert_in_step(environment)


def test_saves_in_a_row_are_not_throttled(environment: Project, folder: Folder) -> None:
    # Airflow would by default keep the tasks of the first for 30 s.
    for tasks in (["a"], ["a", "b"], ["a", "b", "c"]):
        folder.save("trade.py", dag_source("trade", tasks))
        assert tasks_of(environment, "trade") == tasks
    for tasks in (["d"], ["d", "e"]):  # and without a pause in between
        folder.write("trade.py", dag_source("trade", tasks))
    folder.settle()
    assert tasks_of(environment, "trade") == ["d", "e"]


def test_a_file_with_an_old_time_and_the_same_size_is_seen(
    environment: Project, folder: Folder
) -> None:
    folder.save("trade.py", dag_source("trade", ["buy"]))
    # As `rsync -a` or `tar` do it: under another name, with an old time, then renamed.
    for task, seconds in (("ask", 86_400), ("bid", 1)):
        fresh = folder.path / ".trade.py.Xa9b2Z"
        fresh.write_text(dag_source("trade", [task]))
        os.utime(fresh, (seconds, seconds))
        fresh.replace(folder.path / "trade.py")
        folder.settle()
        assert tasks_of(environment, "trade") == [task]
    # In place, then `touch -d`.
    path = folder.path / "trade.py"
    path.write_text(dag_source("trade", ["put"]))
    os.utime(path, (1, 1))
    folder.settle()
    assert tasks_of(environment, "trade") == ["put"]


def test_an_edit_that_lands_during_a_slow_parse_wins(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    slow = f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(5)"
    folder.write("slow.py", dag_source("slow", ["old"], top=slow))
    eventually(started.exists, "the slow parse is on")
    folder.write("slow.py", dag_source("slow", ["new"]))

    folder.settle(timeout=20)  # Airflow by default: half a minute later

    assert tasks_of(environment, "slow") == ["new"]
    assert_in_step(environment, dags=["slow"])


def test_a_helper_edited_during_a_slow_parse_that_has_read_it_wins(
    environment: Project, folder: Folder, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    slow = f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(3)"
    folder.write("lib/names.py", "NAME = 'old'\n")
    source = dag_source("slow", ["only"], top=f"from lib.names import NAME\n{slow}")
    folder.write("slow.py", source.replace("'slow', schedule", "NAME, schedule"))
    eventually(started.exists, "the slow parse is on")
    folder.write("lib/names.py", "NAME = 'new'\n")

    folder.settle(timeout=20)

    assert_in_step(environment, dags=["new"])


# --- ids ------------------------------------------------------------------------------------------


def test_what_is_saved_faster_than_it_is_parsed_is_seen_all_the_same(
    environment: Project, folder: Folder
) -> None:
    folder.write("corner_shop/ticking.py", "TICK = 0\n")
    slow = "import time\nfrom corner_shop.ticking import TICK\ntime.sleep(0.3)"
    folder.save("slow.py", dag_source("slow", top=slow, task_id="f'tick_{TICK}'"))
    over = threading.Event()

    def tick() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            folder.write("corner_shop/ticking.py", f"TICK = {number}\n")

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        for _ in range(3):
            before = tasks_of(environment, "slow")
            eventually(
                lambda: tasks_of(environment, "slow") != before,  # noqa: B023 - asked at once
                "a later tick is parsed while others follow",
            )
        run = environment.airflow.trigger("slow")
        assert run.bundle_version is not None
    finally:
        over.set()
        ticking.join()
    folder.settle()
    last = folder.path.joinpath("corner_shop/ticking.py").read_text().split()[-1]
    assert tasks_of(environment, "slow") == [f"tick_{last}"]
    assert environment.airflow.wait("slow", run.run_id, timeout=60).state == "success"


def test_an_id_that_vanishes_from_a_file_that_stays_is_unlisted(
    environment: Project, folder: Folder
) -> None:
    one, two = dag_source("one"), dag_source("two")
    folder.save("both.py", one + two)
    assert_in_step(environment, dags=["one", "two"])

    folder.save("both.py", one)
    assert_in_step(environment, dags=["one"])

    folder.save("both.py", "# no DAG in Airflow's sense any more\n")
    assert_in_step(environment)


def test_an_id_that_moves_to_another_file_stays_listed(
    environment: Project, folder: Folder
) -> None:
    folder.save("first.py", dag_source("mover", ["a"]) + dag_source("rest"))

    folder.write("first.py", dag_source("rest"))
    folder.write("second.py", dag_source("mover", ["a", "b"]))
    folder.settle()

    assert_in_step(environment, dags=["mover", "rest"])
    assert environment.airflow.dag("mover").file == "second.py"
    assert tasks_of(environment, "mover") == ["a", "b"]


@pytest.mark.parametrize("leaver", ["first.py", "second.py"])
def test_of_two_files_with_one_id_either_may_go(
    environment: Project, folder: Folder, leaver: str
) -> None:
    folder.write("first.py", dag_source("twin", ["first"]))
    folder.save("second.py", dag_source("twin", ["second"]))

    folder.delete(leaver)
    folder.settle()

    [stays] = {"first.py", "second.py"} - {leaver}
    assert_in_step(environment, dags=["twin"])
    assert environment.airflow.dag("twin").file == stays
    assert tasks_of(environment, "twin") == [stays.removesuffix(".py")]


def test_a_renamed_folder_takes_its_dags_along(environment: Project, folder: Folder) -> None:
    folder.write("north/names.py", "TASK = 'sow'\n")
    folder.write("north/farm.py", dag_source("farm", ["sow"], top="import north.names"))
    folder.settle()
    folder.path.joinpath("north").rename(folder.path / "south")
    folder.settle()
    assert_in_step(environment, broken=["south/farm.py"])  # it imports `north`

    folder.save("south/farm.py", dag_source("farm", ["reap"], top="import south.names"))

    assert_in_step(environment, dags=["farm"])
    assert environment.airflow.dag("farm").file == "south/farm.py"
    assert tasks_of(environment, "farm") == ["reap"]


# --- what DAG files use ---------------------------------------------------------------------------


def parsed_after(environment: Project, folder: Folder, name: str, text: str) -> set[str]:
    """Save a file; the DAG files that Airflow parsed again because of it."""
    with Events(environment) as events:
        snapshot = folder.save(name, text).snapshot
        events.wait_for(
            lambda event: event["type"] == "settled" and event["snapshot"] == snapshot,
            "the save is parsed",
        )
        assert len(events.of("sent")) == 1
        return {event["file"] for event in events.of("parsed") if event["snapshot"] == snapshot}


def test_a_helper_has_its_importers_parsed_again_and_no_others(
    environment: Project, folder: Folder
) -> None:
    # `corner_shop/` is in .airflowignore: imported, never looked at for DAGs.
    folder.write("corner_shop/names.py", "def task_name(): return 'old'\n")
    folder.write("corner_shop/more.py", "from corner_shop.names import task_name\n")
    folder.write("corner_shop/plan.sql", "select 1\n")
    folder.write("plans/plan.yaml", "task: old\n")
    path = "import pathlib\nHERE = pathlib.Path(__file__).parent"
    read_yaml = "HERE.joinpath('plans/plan.yaml').read_text().split()[1]"
    for name, top, task_id in (
        ("direct", "from corner_shop.names import task_name", "task_name()"),
        ("indirect", "from corner_shop.more import task_name", "task_name()"),
        ("reads_yaml", path, read_yaml),
        ("reads_sql", path, "HERE.joinpath('corner_shop/plan.sql').read_text().split()[0]"),
        ("lists", path, "sorted(HERE.glob('plans/*.yaml'))[0].stem"),
        ("stranger", "", "'only'"),
    ):
        folder.write(f"{name}.py", dag_source(name, top=top, task_id=task_id))
    assert not folder.settle().errors

    after = parsed_after(
        environment, folder, "corner_shop/names.py", "def task_name(): return 'new'\n"
    )
    assert after == {"direct.py", "indirect.py"}
    assert tasks_of(environment, "direct") == tasks_of(environment, "indirect") == ["new"]

    after = parsed_after(environment, folder, "plans/plan.yaml", "task: newer\n")
    assert "reads_yaml.py" in after
    assert after <= {"reads_yaml.py", "lists.py"}
    assert tasks_of(environment, "reads_yaml") == ["newer"]

    after = parsed_after(environment, folder, "corner_shop/plan.sql", "insert 2\n")
    assert after == {"reads_sql.py"}
    assert tasks_of(environment, "reads_sql") == ["insert"]


MOODS = {
    "exits": ("import os\nif MOOD == 'bad': os._exit(7)", "exit code 7 before the import was done"),
    "gives_up": ("import sys\nif MOOD == 'bad': sys.exit(3)", "SystemExit: 3"),
    "is_killed": (
        "import os\nif MOOD == 'bad': os.kill(os.getpid(), 9)",
        "killed by SIGKILL before the import was done",
    ),
    "raises": ("if MOOD == 'bad': raise ValueError('oh')", "ValueError: oh"),
}
"""Name → what its file does in a bad mood, and the error that must be told."""


def test_importers_that_share_a_parser_succeed_and_fail_each_by_itself(
    environment: Project, folder: Folder
) -> None:
    folder.write("corner_shop/mood.py", "MOOD = 'good'\n")
    uses = "from corner_shop.mood import MOOD\nimport os"
    sound = [f"sound_{number}" for number in range(4)]
    for name in sound:
        folder.write(f"{name}.py", dag_source(name, top=uses, task_id="f'{MOOD}_{os.getppid()}'"))
    for name, (top, _) in MOODS.items():
        folder.write(f"{name}.py", dag_source(name, top=f"{uses}\n{top}", task_id="MOOD"))
    assert not folder.settle().errors

    settled = folder.save("corner_shop/mood.py", "MOOD = 'bad'\n")
    assert sorted(settled.errors) == [f"{name}.py" for name in sorted(MOODS)]
    for name, (_, error) in MOODS.items():
        assert error in settled.errors[f"{name}.py"]
    processor = component_pid(environment, "dag-processor")
    moods, parents = zip(
        *(tasks_of(environment, name)[0].split("_") for name in sound), strict=True
    )
    assert set(moods) == {"bad"}
    if sys.platform == "linux":
        assert set(parents) != {str(processor)}, "none of them went along with another one"

    assert not folder.save("corner_shop/mood.py", "MOOD = 'good'\n").errors
    assert all(tasks_of(environment, name) == ["good"] for name in MOODS)


def test_a_new_file_in_a_folder_that_a_dag_lists_becomes_a_task(
    environment: Project, folder: Folder
) -> None:
    folder.write("feeds/apples.yaml", "rows: 1\n")
    top = "import pathlib\nFEEDS = sorted(pathlib.Path(__file__).parent.glob('feeds/*.yaml'))"
    many = "for feed in FEEDS:\n        load.override(task_id=feed.stem)()"
    source = dag_source("feeds", ["load"], top=top).replace("chain(load())", many)
    folder.save("feeds.py", source)
    assert tasks_of(environment, "feeds") == ["apples"]

    assert parsed_after(environment, folder, "feeds/pears.yaml", "rows: 2\n") == {"feeds.py"}
    assert tasks_of(environment, "feeds") == ["apples", "pears"]

    folder.delete("feeds/apples.yaml")
    folder.settle()
    assert tasks_of(environment, "feeds") == ["pears"]


@pytest.mark.parametrize(
    ("look", "comes"),
    [
        (
            "try:\n    from local_names import TASK\nexcept ImportError: TASK = 'old'",
            "local_names.py",
        ),
        (
            "try:\n    from local.names import TASK\nexcept ImportError: TASK = 'old'",
            "local/names.py",
        ),
        ("TASK = 'new' if (HERE / 'flag.txt').exists() else 'old'", "flag.txt"),
        ("TASK = 'new' if os.path.isdir(HERE / 'flags') else 'old'", "flags/any.txt"),
        ("TASK = 'new' if list(HERE.glob('*.flag')) else 'old'", "new.flag"),
    ],
)
def test_what_a_parse_looked_for_in_vain_has_it_parsed_again_when_it_comes(
    environment: Project, folder: Folder, look: str, comes: str
) -> None:
    top = f"import os, pathlib\nHERE = pathlib.Path(__file__).parent\n{look}"
    folder.save("looks.py", dag_source("looks", top=top, task_id="TASK"))
    assert tasks_of(environment, "looks") == ["old"]

    folder.save(comes, "TASK = 'new'\n")
    assert tasks_of(environment, "looks") == ["new"]

    folder.delete(comes.split("/", maxsplit=1)[0])
    folder.settle()
    assert tasks_of(environment, "looks") == ["old"]


def test_broken_files_are_parsed_again_only_for_what_they_used_or_looked_for(
    environment: Project, folder: Folder
) -> None:
    broken = [f"broken_{number}.py" for number in range(9)]
    for name in broken:
        folder.write(name, "import airflow  # dag\nimport not_there\n")
    folder.settle()

    after = parsed_after(environment, folder, "trade.py", dag_source("trade"))
    assert after == {"trade.py"}
    after = parsed_after(environment, folder, "not_there.py", "")
    assert after == set(broken)
    assert_in_step(environment, dags=["trade"])


def test_a_missing_helper_that_arrives_mends_its_importer(
    environment: Project, folder: Folder
) -> None:
    folder.save("early.py", dag_source("early", top="import lib.late"))
    assert_in_step(environment, broken=["early.py"])

    folder.save("lib/late.py", "")

    assert_in_step(environment, dags=["early"])


def test_a_branch_switch_is_one_batch(environment: Project, folder: Folder) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=A. U. Thor", "-c", "user.email=author@example.invalid"]
        run_tool("git", "-C", str(folder.path), *identity, *arguments)

    # No DAGs for Airflow to parse: `corner_shop` is ignored by it, not by us.
    def commit(branch: str, dag_task: str, count: int) -> None:
        git("checkout", "-q", "-b", branch)
        for number in range(count):
            folder.write(f"corner_shop/data/{number}.txt", f"{branch} {number}\n")
        folder.write("trade.py", dag_source("trade", [dag_task]))
        git("add", "--all")
        git("commit", "-q", "-m", branch)

    git("init", "-q")
    commit("main", "buy", 300)
    commit("other", "sell", 200)
    git("checkout", "-q", "main")
    folder.settle()
    assert tasks_of(environment, "trade") == ["buy"]

    with Events(environment) as events:
        git("checkout", "-q", "other")
        snapshot = folder.settle().snapshot
        events.wait_for(
            lambda event: event["type"] == "settled" and event["snapshot"] == snapshot,
            "the switch is parsed",
        )
        sent = events.of("sent")

    assert [event["count"] for event in sent] == [201]
    assert tasks_of(environment, "trade") == ["sell"]
    assert_in_step(environment, dags=["trade"])


# --- what the terminal says -----------------------------------------------------------------------


SHOWN = r"\S*/dags/"
"""How the lines of a terminal name the DAG folder, from where the tests run the commands."""


@contextmanager
def watching_terminal(folder: Folder) -> Iterator[Command]:
    """`invoke sync`, from the moment that it shows saves."""
    with folder.project.start("sync") as terminal:
        terminal.wait_for("watching")

        # It says so just before it is attached.
        def shows_saves() -> bool:
            folder.save("probe.txt", os.urandom(4).hex())
            assert terminal.process.poll() is None, terminal.text()
            return any("probe.txt" in line for line in terminal.lines)

        eventually(shows_saves, "the terminal is attached", every=0.2)
        yield terminal


def test_the_terminal_tells_of_each_save_what_came_of_it(
    environment: Project, folder: Folder
) -> None:
    with watching_terminal(folder) as terminal:
        folder.save("trade.py", dag_source("trade", ["buy", "sell"]))
        line = terminal.wait_for(r"trade\.py")
        assert re.fullmatch(rf"✓ {SHOWN}trade\.py → trade \(2 tasks\)  \d+\.\d\d s", line)

        broken = dag_source("trade", ["buy"], top="def price():\n    return 1 / 0\n\nprice()")
        number = broken.splitlines().index("    return 1 / 0") + 1
        folder.save("trade.py", broken)
        line = terminal.wait_for(r"^✗")
        assert re.fullmatch(
            rf"✗ {SHOWN}trade\.py:{number}  ZeroDivisionError: division by zero  \d+\.\d\d s", line
        )
        terminal.wait_for(rf'File "{SHOWN}trade\.py", line {number}, in price')
        # In Airflow's UI it is the author's own file too, not our copy of it.
        [error] = environment.airflow.import_errors()
        assert f'File "{folder.path}/trade.py", line {number}, in price' in error.traceback
        assert str(environment.state / "store") not in error.traceback

        before = len(terminal.lines)
        folder.save("trade.py", dag_source("trade", ["buy"]))
        assert "/dags/trade.py → trade (1 task)" in terminal.wait_for(r"trade\.py", after=before)

        before = len(terminal.lines)
        folder.delete("trade.py")
        assert "removed trade" in terminal.wait_for(r"trade\.py", after=before)

        before = len(terminal.lines)
        folder.save("notes.txt", "nothing that a DAG reads")
        assert "/dags/notes.txt → no DAG affected" in terminal.wait_for("notes", after=before)

        terminal.interrupt()
        assert terminal.end() == 0
    assert not any("Traceback" in line and "most recent" not in line for line in terminal.lines)
    assert_in_step(environment)


def test_what_yields_no_dag_says_why_and_what_is_doubtful_is_told_once(
    environment: Project, folder: Folder
) -> None:
    with watching_terminal(folder) as terminal:
        make = "def make(name):\n    import airflow\n    return airflow.DAG(name)\n"
        folder.write("lib/make.py", make)
        folder.save("made.py", "from lib.make import make\nmade = make('made')\n")
        terminal.wait_for(r'! \S*made\.py  no DAG is looked for .* the words "airflow" and "dag"')
        folder.save("made.py", "from lib.make import make  # airflow dag\nmade = make('made')\n")
        terminal.wait_for(r"✓ \S*made\.py → made \(0 tasks\)")
        before = len(terminal.lines)
        folder.save("lib/make.py", f"{make}# a helper is no DAG file, and that is no matter\n")
        terminal.wait_for(r"✓ \S*lib/make\.py → made", after=before)
        assert not any(line.startswith("!") for line in terminal.lines[before:])

        folder.save("uncalled.py", dag_source("uncalled").replace("\nmake()", ""))
        terminal.wait_for(r"! \S*uncalled\.py:\d+  the @dag function make is never called")
        folder.write("asleep/.airflowignore", "# all\n*.py\n")
        folder.save("asleep/alone.py", dag_source("alone"))
        terminal.wait_for(r"! \S*asleep/alone\.py  .*by line 2 of asleep/\.airflowignore")
        folder.save("shout.PY", dag_source("shout"))
        terminal.wait_for(r"! \S*shout\.PY  .*only \.py")

        top = "from datetime import datetime"
        source = dag_source("first", top=top).replace("None)", "None, start_date=datetime.now())")
        folder.save("first.py", source)
        terminal.wait_for(r"! \S*first\.py:\d+  .*runtime-varying value")
        folder.save("second.py", dag_source("first"))
        terminal.wait_for(r"! \S*second\.py  DAG 'first' is also defined in first\.py")
        shown = environment.invoke("dags.errors")
        assert "is also defined in first.py" in shown.stdout + shown.stderr
        before = len(terminal.lines)
        folder.delete("first.py")
        folder.path.joinpath("second.py").rename(folder.path / "third.py")
        folder.settle()
        terminal.wait_for("third.py", after=before)
        folder.write("latin.py", (dag_source("latin") + "NAME = 'ä'\n").encode("latin-1"))
        folder.settle()
        terminal.wait_for(r"✗ \S*latin\.py", after=before)
        terminal.interrupt()
        assert terminal.end() == 0
    said = terminal.lines[before:]
    assert not any("also defined" in line for line in said)
    assert len([line for line in said if re.match(r"[✓✗!] .*latin\.py", line)]) == 1


def test_what_editors_leave_behind_is_not_synced(environment: Project, folder: Folder) -> None:
    folder.write("trade.py", dag_source("trade"))
    for name in (".trade.py.swp", "4913", "#trade.py#", ".git/index", "__pycache__/x.pyc"):
        folder.path.joinpath(name).parent.mkdir(exist_ok=True)
        folder.path.joinpath(name).write_text("not for Airflow")
    folder.path.joinpath("trade.py~").write_text("the version before")
    folder.settle()

    store = content_of(environment.state / "store" / "current")

    assert set(content_of(folder.path)) - set(store) == {
        ".trade.py.swp",
        "4913",
        "#trade.py#",
        "trade.py~",
    }
    assert not (environment.state / "store" / "current" / ".git").exists()


def test_names_links_and_modes_arrive_as_they_are(environment: Project, folder: Folder) -> None:
    folder.write("corner_shop/größe 数 🛒/ein 'Name' mit \"allem\" $HOME.txt", "x")
    folder.write("corner_shop/tool.sh", "#!/bin/sh\n").chmod(0o755)
    folder.path.joinpath("corner_shop/link.sh").symlink_to("tool.sh")
    folder.write("corner_shop/empty", "")

    folder.settle()
    assert_in_step(environment)
    assert "corner_shop/link.sh" in content_of(environment.state / "store" / "current")
