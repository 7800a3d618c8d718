from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.airflow.fake_airflow import (
    FakeAirflow,
    FakeDag,
    FakeTask,
    VirtualClock,
    line_of,
    refused,
)
from windsock.airflow.failure import (
    MOST_LINES,
    Failure,
    changed_files,
    explain_failure,
)
from windsock.model import TaskPod
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from pathlib import Path

SNAPSHOT = "/store/snapshots/" + "0f" * 16
AIRFLOW = "/venv/lib/python3.11/site-packages/airflow/sdk/task_runner.py"


def recorded(
    *frames: tuple[str, int], kind: str = "ValueError", value: str = "no day", **more: Any
) -> dict[str, Any]:
    """An exception as structlog's `ExceptionDictTransformer` records it."""
    return {
        "exc_type": kind,
        "exc_value": value,
        "exc_notes": [],
        "syntax_error": None,
        "is_cause": False,
        "frames": [{"filename": file, "lineno": line, "name": "f"} for file, line in frames],
        "is_group": False,
        "exceptions": [],
        **more,
    }


def group(*exceptions: list[dict[str, Any]], frames: tuple[tuple[str, int], ...] = ()) -> Any:
    return recorded(
        *frames,
        kind="ExceptionGroup",
        value=f"bad config ({len(exceptions)} sub-exceptions)",
        is_group=True,
        exceptions=exceptions,
    )


def told(*exceptions: dict[str, Any]) -> Any:
    """A line of a log with an exception, and what caused it."""
    return {
        **line_of("Task failed with exception"),
        "level": "error",
        "error_detail": list(exceptions),
    }


def raised(*frames: tuple[str, int], **more: Any) -> Any:
    """A line of a log with an exception."""
    return told(recorded(*frames, **more))


def explain(fake: FakeAirflow, run_id: str = "r", **options: Any) -> Failure:
    clock = VirtualClock()
    api = fake.client(clock)
    if ("sales", run_id) not in fake.runs:
        api.trigger("sales", run_id=run_id, **options.pop("trigger", {}))
    run = api.wait("sales", run_id, timeout=10)
    places = Places(
        str(options.pop("dags_folder", "/home/ann/dags")), {"include": "/home/ann/shared"}
    )
    return explain_failure(api, run, places=places, clock=clock, sleep=clock.sleep, **options)


def failing(*log: Any) -> FakeAirflow:
    task = FakeTask("load", state="failed", log=list(log))
    return FakeAirflow(FakeDag("sales", state="failed", tasks=[task]))


def test_the_exception_is_told_at_the_authors_line() -> None:
    fake = failing(
        line_of("::group::Pre Execute"),
        line_of("::endgroup::"),
        line_of("loaded 3 rows"),
        raised((AIRFLOW, 9), (f"{SNAPSHOT}/shop/sales.py", 12), ("/usr/lib/json.py", 3)),
    )
    [task] = explain(fake).tasks
    assert (task.task, task.place) == ("load", "/home/ann/dags/shop/sales.py:12")
    assert task.headline == "ValueError: no day"
    text = "\n".join(task.log)
    assert "::" not in text
    assert "loaded 3 rows" in text
    assert 'File "/home/ann/dags/shop/sales.py", line 12' in text
    assert AIRFLOW not in text


def test_a_file_of_a_further_folder_is_named_where_it_lies() -> None:
    fake = failing(raised((f"{SNAPSHOT}/sales.py", 1), (f"{SNAPSHOT}/include/tax.py", 7)))
    [task] = explain(fake).tasks
    assert task.place == "/home/ann/shared/tax.py:7"
    assert 'File "/home/ann/shared/tax.py", line 7' in "\n".join(task.log)


def test_a_path_below_the_working_folder_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = failing(raised((f"{SNAPSHOT}/sales.py", 1)))
    [task] = explain(fake, dags_folder=tmp_path / "dags").tasks
    assert task.place == "dags/sales.py:1"


def test_a_group_is_told_with_what_it_holds_in_order() -> None:
    inner = group([recorded(kind="KeyError", value="'region'")])
    cause = recorded((f"{SNAPSHOT}/shop/days.py", 3), kind="OSError", value="no file")
    fake = failing(
        told(
            group(
                [recorded((f"{SNAPSHOT}/shop/days.py", 7), exc_notes=["see the docs"]), cause],
                [inner],
                frames=((AIRFLOW, 9), (f"{SNAPSHOT}/sales.py", 12)),
            )
        )
    )
    [task] = explain(fake).tasks
    assert task.headline == "ExceptionGroup: bad config (2 sub-exceptions)"
    assert task.place == "/home/ann/dags/sales.py:12"
    assert task.log[1:] == (
        "Traceback (most recent call last):",
        "  (1 frames of Airflow)",
        '  File "/home/ann/dags/sales.py", line 12, in f',
        "ExceptionGroup: bad config (2 sub-exceptions)",
        "  sub-exception 1 of 2:",
        "    Traceback (most recent call last):",
        '      File "/home/ann/dags/shop/days.py", line 7, in f',
        "    ValueError: no day",
        "    see the docs",
        "    Traceback (most recent call last):",
        '      File "/home/ann/dags/shop/days.py", line 3, in f',
        "    OSError: no file",
        "  sub-exception 2 of 2:",
        "    ExceptionGroup: bad config (1 sub-exceptions)",
        "      sub-exception 1 of 1:",
        "        KeyError: 'region'",
    )


def test_a_group_that_a_library_raised_is_at_the_line_of_what_it_holds() -> None:
    held = recorded((f"{SNAPSHOT}/sales.py", 4), ("/usr/lib/json.py", 3))
    cause = recorded((f"{SNAPSHOT}/sales.py", 99))
    [task] = explain(
        failing(told(group([held], frames=(("/usr/lib/python3.11/asyncio.py", 1),)), cause))
    ).tasks
    assert task.place == "/home/ann/dags/sales.py:4"


def test_notes_stand_after_the_message() -> None:
    fake = failing(
        raised((f"{SNAPSHOT}/sales.py", 1), exc_notes=["see the settings\nor the docs", "row 7"])
    )
    [task] = explain(fake).tasks
    assert task.headline == "ValueError: no day"
    assert task.log[-4:] == ("ValueError: no day", "see the settings", "or the docs", "row 7")


@pytest.mark.parametrize(
    ("offset", "mark"), [(14, ["             ^"]), (0, []), (2, [])], ids=["there", "none", "odd"]
)
def test_a_syntax_error_is_told_at_its_own_line(offset: int, mark: list[str]) -> None:
    error = {
        "filename": f"{SNAPSHOT}/include/tax.py",
        "lineno": 3,
        "line": "    def load(:\n",
        "offset": offset,
        "msg": "invalid syntax",
    }
    fake = failing(
        raised(
            (f"{SNAPSHOT}/sales.py", 9),
            kind="SyntaxError",
            value="invalid syntax (tax.py, line 3)",
            syntax_error=error,
        )
    )
    [task] = explain(fake).tasks
    assert (task.place, task.headline) == (
        "/home/ann/shared/tax.py:3",
        "SyntaxError: invalid syntax",
    )
    assert list(task.log[3:]) == [
        '  File "/home/ann/shared/tax.py", line 3',
        "    def load(:",
        *mark,
        "SyntaxError: invalid syntax",
    ]


def test_frames_that_were_not_recorded_are_counted() -> None:
    frames = ((f"{SNAPSHOT}/sales.py", 1), ("", -1), (f"{SNAPSHOT}/sales.py", 2))
    line = raised(*frames, kind="RecursionError")
    line["error_detail"][0]["frames"][1]["name"] = "Skipped frames: 940"
    assert "  (Skipped frames: 940)" in explain(failing(line)).tasks[0].log


@pytest.mark.parametrize(
    "folder", ["my project", "ann's", "(old) [a]", 'a "b" c', "a, b; c:d"], ids=str
)
def test_the_store_may_lie_below_a_folder_of_any_name(folder: str) -> None:
    file = f"/home/me/{folder}/.windsock/store/snapshots/{'0f' * 16}/shop/sales.py"
    [task] = explain(failing(raised((file, 12))), dags_folder=f"/home/me/{folder}/dags").tasks
    assert task.place == f"/home/me/{folder}/dags/shop/sales.py:12"
    if '"' not in folder:  # Then nothing tells where the path begins.
        assert f'  File "/home/me/{folder}/dags/shop/sales.py", line 12, in f' in task.log


def test_the_headline_has_one_line_and_the_traceback_is_whole() -> None:
    fake = failing(
        *(line_of(f"line {number}") for number in range(90)),
        raised((f"{SNAPSHOT}/sales.py", 1), value="no day\nFor further information\n" * 20),
    )
    [task] = explain(fake).tasks
    assert task.headline == "ValueError: no day"
    assert task.log[1] == "Traceback (most recent call last):"
    assert len(task.log) > 40


def test_what_the_log_says_long_after_an_exception_is_bounded() -> None:
    fake = failing(
        raised((f"{SNAPSHOT}/sales.py", 1), value="caught"),
        *(line_of(f"row {number}") for number in range(20)),
        raised((f"{SNAPSHOT}/sales.py", 2), value="no day"),
        *(line_of(f"at the end {number}") for number in range(900)),
    )
    [task] = explain(fake).tasks
    text = "\n".join(task.log)
    assert len(task.log) == MOST_LINES + 1
    assert "row 19" not in text
    assert "ValueError: no day" in text
    assert task.log[-1].endswith("at the end 899")
    assert "(804 more lines)" in task.log


def test_an_exception_that_was_caught_early_does_not_draw_in_the_whole_log() -> None:
    fake = failing(
        raised((f"{SNAPSHOT}/sales.py", 1), value="caught"),
        *(line_of(f"row {number}") for number in range(50)),
        raised((f"{SNAPSHOT}/sales.py", 2), value="no day"),
    )
    [task] = explain(fake).tasks
    assert len(task.log) == 15
    assert "caught" not in "\n".join(task.log)


def test_a_log_that_is_gone_leaves_those_of_the_other_tasks() -> None:
    fake = failing(raised((f"{SNAPSHOT}/sales.py", 1)))
    fake.dags["sales"].tasks.append(FakeTask("gone", state="failed"))
    fake.routes.insert(
        0, ("GET", re.compile(".*/gone/logs/1"), lambda *_: refused(404, "TaskInstance not found"))
    )
    load, gone = explain(fake).tasks
    assert load.headline == "ValueError: no day"
    assert (gone.task, gone.headline, gone.log) == ("gone", "Airflow has no log of it", ())


def test_a_task_that_was_killed_has_no_exception() -> None:
    [task] = explain(failing(line_of("was running"))).tasks
    assert (task.place, task.headline) == ("", "it ended without an exception: its log says more")


def test_a_task_that_was_killed_is_headed_by_the_words_of_its_supervisor() -> None:
    words = "Process terminated by signal. Likely out of memory error (OOM)."
    killed = line_of(f"{words} For more information, see https://airflow.invalid", level="critical")
    [task] = explain(failing(line_of("was running"), killed)).tasks
    assert task.headline == words


def test_the_exception_that_ended_the_task_heads_it_not_one_that_came_after() -> None:
    own = raised((f"{SNAPSHOT}/sales.py", 8), value="the task's own")
    callback = raised((f"{SNAPSHOT}/sales.py", 3), value="the callback's")
    callback["event"] = "Failed to run task callback"
    [task] = explain(failing(own, callback)).tasks
    assert (task.place, task.headline) == (
        "/home/ann/dags/sales.py:8",
        "ValueError: the task's own",
    )
    assert "the callback's" in "\n".join(task.log)


@pytest.mark.parametrize("event", ["Task exited", "Process exited abnormally"])
def test_a_process_that_ended_by_itself_says_its_exit_code(event: str) -> None:
    handled = {**raised((f"{SNAPSHOT}/sales.py", 3)), "event": "handled, harmless"}
    [task] = explain(failing(handled, line_of(event, level="error", exit_code=9))).tasks
    assert (task.place, task.headline) == ("", "its process ended with exit code 9")


def test_a_line_of_any_length_is_cut() -> None:
    [task] = explain(failing(line_of("x" * 3_000_000))).tasks
    assert len("".join(task.log)) < 3000


def test_tasks_that_failed_in_a_run_that_succeeded_are_explained_too() -> None:
    task = FakeTask("load", state="failed", log=[raised((f"{SNAPSHOT}/sales.py", 1))])
    found = explain(FakeAirflow(FakeDag("sales", tasks=[task, FakeTask("after")])))
    assert [each.task for each in found.tasks] == ["load"]
    assert explain(FakeAirflow(FakeDag("sales", tasks=[FakeTask("load")]))).tasks == ()


def test_what_airflow_says_of_an_error_before_the_task_begins_is_told() -> None:
    fake = failing(
        line_of("::group::Pre Execute"),
        line_of("Filling up the DagBag", logger="task"),
        line_of("Task failed with exception", logger="task", level="error",
                error_detail=[{"exc_type": "ValueError", "exc_value": "pre", "frames": []}]),
        line_of("::endgroup::"),
    )  # fmt: skip
    [task] = explain(fake).tasks
    assert task.headline == "ValueError: pre"
    assert "DagBag" not in "\n".join(task.log)


MISMATCH = (
    "Executor K reported that the task instance <TaskInstance: x> finished with state failed, but "
    "the task instance's state attribute is queued. Learn more: https://airflow.invalid/x#y"
)
FORBIDDEN = (
    "(403)\nReason: Forbidden\nHTTP response body: "
    r'{"kind":"Status","message":"User \"x\" may not","code":403}'
)
HEARTBEAT = "Task did not emit heartbeat within time limit (300 seconds) and will be terminated."


@pytest.mark.parametrize(
    ("said", "headline"),
    [
        (MISMATCH, "its process ended while it was queued, and reported nothing"),
        (
            f"{MISMATCH} Extra info: out of room",
            "its process ended while it was queued, and reported nothing: out of room",
        ),
        (
            f"{MISMATCH} Extra info: {FORBIDDEN}",
            'its process ended while it was queued, and reported nothing: User "x" may not',
        ),
        (
            f"{HEARTBEAT} See https://airflow.invalid/x",
            HEARTBEAT,
        ),
    ],
)
def test_what_the_scheduler_knows_heads_a_task_that_said_nothing(said: str, headline: str) -> None:
    fake = failing(line_of("was running"))
    fake.ends["sales", "r", "load"] = said
    assert [task.headline for task in explain(fake).tasks] == [headline]


def test_what_the_cluster_knows_of_the_pod_comes_before_what_the_scheduler_knows() -> None:
    fake = failing(line_of("was running"))
    fake.ends["sales", "r", "load"] = MISMATCH
    pod = TaskPod(task_id="load", map_index=-1, why="its pod x failed: OOMKilled")
    [task] = explain(fake, pods=lambda *_: [pod]).tasks
    assert task.headline == "its pod x failed: OOMKilled"
    [raised_one] = explain(failing(raised(("/a.py", 1))), pods=lambda *_: [pod]).tasks
    assert raised_one.headline == "ValueError: no day"


def test_a_run_is_compared_with_the_last_green_one() -> None:
    fake = FakeAirflow(
        FakeDag(
            "sales",
            tasks=[
                FakeTask("extract", xcom=42, downstream=("load",)),
                FakeTask("other", xcom=1),
                FakeTask("load", state="success"),
            ],
        )
    )
    api = fake.client()
    api.trigger("sales", run_id="green", conf={"day": 1, "same": 1})
    api.wait("sales", "green", timeout=10)
    fake.dags["sales"].state = "failed"
    fake.dags["sales"].tasks[2].state = "failed"
    failure = explain(fake, trigger={"conf": {"same": 1, "region": "x" * 200}})
    assert failure.green_run == "green"
    assert failure.since_green[0] == "conf 'day': 1 → nothing"
    assert failure.since_green[1].startswith("conf 'region': nothing → 'xxx")
    assert len(failure.since_green) == 2
    assert len(failure.since_green[1]) < 100
    assert failure.as_json()["tasks"][0]["task"] == "load"


def test_the_code_is_compared_by_the_files_of_the_snapshots(tmp_path: Path) -> None:
    old, new, collected = ("0a" * 16, "0b" * 16, "0c" * 16)
    (tmp_path / "manifests").mkdir()
    for snapshot, more in ((old, ()), (new, ("added.py",))):
        files = {"same.py": "same", "shop/sales.py": snapshot, **dict.fromkeys(more, "")}
        entries = {path: ["file", 0o644, len(text), text] for path, text in files.items()}
        manifest = tmp_path / "manifests" / f"{snapshot}.json"
        manifest.write_text(json.dumps({"version": 1, "entries": entries}))
    assert changed_files(tmp_path, old, new) == ["added.py", "shop/sales.py"]
    assert changed_files(tmp_path, collected, new) == []
    assert changed_files(None, old, new) == []


def test_a_hundred_failures_are_five_and_a_number() -> None:
    tasks = [FakeTask("t", state="failed", map_index=index) for index in range(100)]
    failure = explain(FakeAirflow(FakeDag("sales", state="failed", tasks=tasks)))
    assert len(failure.tasks) == 5
    assert failure.left_out == 95
