from __future__ import annotations

import pytest

from windsock.local.crashes import record_of


@pytest.mark.parametrize(
    ("line", "name", "what", "reason"),
    [
        (
            "WARN exited: dag-processor (exit status 1; not expected)",
            "dag-processor",
            "exited",
            "exit status 1",
        ),
        (
            "WARN exited: scheduler (terminated by SIGKILL (core dumped); not expected)",
            "scheduler",
            "exited",
            "terminated by SIGKILL (core dumped",
        ),
        ("INFO exited: sync (exit status 0; expected)", "sync", "exited", "exit status 0"),
        (
            "INFO gave up: triggerer entered FATAL state, too many start retries too quickly",
            "triggerer",
            "gave up",
            "",
        ),
        ("INFO stopped: postgres (exit status 0)", "postgres", "stopped", "exit status 0"),
        ("INFO success: sync entered RUNNING state, process has", "sync", "success", ""),
        ("INFO spawned: 'api-server' with pid 7", "api-server", "spawned", ""),
    ],
)
def test_a_line_of_the_supervisor_is_understood(
    line: str, name: str, what: str, reason: str
) -> None:
    record = record_of(f"2026-12-01 12:10:17,074 {line}")
    assert record is not None
    assert (record.name, record.what, record.reason) == (name, what, reason)


@pytest.mark.parametrize(
    "line",
    [
        "2026-12-01 12:10:17,074 INFO waiting for sync to stop",
        "2026-12-01 12:10:17,074 INFO RPC interface 'supervisor' initialized",
        "",
    ],
)
def test_other_lines_say_nothing_of_a_program(line: str) -> None:
    assert record_of(line) is None
