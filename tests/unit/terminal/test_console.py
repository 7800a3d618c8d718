from __future__ import annotations

import io
import json
import os
import select

import pytest

from windsock.errors import EnvironmentFailure
from windsock.terminal.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_data_goes_to_stdout_and_status_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.write("data")
    console.success("done")
    out, err = capsys.readouterr()
    assert out == "data\n"
    assert err == "✓ done\n"


def test_the_words_carry_the_meaning_without_colour() -> None:
    status = io.StringIO()
    console = Console(status=status)
    for show in (console.success, console.failure, console.warning, console.detail, console.line):
        show("it")
    assert status.getvalue() == "✓ it\n✗ it\n! it\nit\nit\n"


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    Console(status=coloured).failure("it")
    assert "\x1b[31m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Console(status=plain).failure("it")
    assert plain.getvalue() == "✗ it\n"


def test_an_error_is_its_message_and_its_hint_line_by_line() -> None:
    status = io.StringIO()
    Console(status=status).error(EnvironmentFailure("it broke", "first\nsecond"))
    assert status.getvalue() == "✗ it broke\n  first\n  second\n"


def test_json_is_one_document_in_a_steady_order() -> None:
    data = io.StringIO()
    Console(data=data).json({"b": 1, "a": {"é": None}})
    assert json.loads(data.getvalue()) == {"a": {"é": None}, "b": 1}
    assert data.getvalue().index('"a"') < data.getvalue().index('"b"')


def test_a_step_tells_its_detail_and_its_time() -> None:
    status, clock = io.StringIO(), Clock()
    with Console(status=status, clock=clock).step("PostgreSQL") as step:
        step.progress("waiting")
        step.detail = "port 5433"
        clock.now = 1.26
    assert status.getvalue() == "✓ PostgreSQL: port 5433 (1.3 s)\n"


@pytest.mark.parametrize("error", [EnvironmentFailure("no"), KeyboardInterrupt()])
def test_a_step_that_fails_says_so_and_hands_the_failure_on(error: BaseException) -> None:
    status, clock = io.StringIO(), Clock()
    with (
        pytest.raises(type(error)),
        Console(status=status, clock=clock).step("PostgreSQL"),
    ):
        raise error
    assert status.getvalue() == "✗ PostgreSQL (0.0 s)\n"


def test_on_a_terminal_a_step_shows_its_progress_in_place() -> None:
    status = Terminal()
    with Console(status=status, colour=False).step("Airflow") as step:
        step.progress("waiting for scheduler")
    lines = status.getvalue().split("\r\x1b[2K")
    assert lines[1:4] == [
        "  Airflow …",
        "  Airflow: waiting for scheduler …",
        "✓ Airflow (0.0 s)\n",
    ]


def test_a_question_stays_the_last_line_and_is_answered_from_the_input() -> None:
    reading, writing = os.pipe()
    status = Terminal()
    with os.fdopen(reading) as answers, os.fdopen(writing, "w") as person:
        console = Console(status=status, colour=False, answers=answers)
        console.ask("now?")
        console.success("saved")
        assert status.getvalue().endswith("\r\x1b[2K✓ saved\n? now? ")
        assert console.answer() is None
        person.write("y\n")
        person.flush()
        assert console.answer() == "y"
        console.success("done")
        assert status.getvalue().endswith("? now? ✓ done\n")
        person.close()
        assert console.answer() == ""


def test_what_was_typed_before_the_question_is_no_answer_to_it() -> None:
    person, terminal = os.openpty()
    try:
        with os.fdopen(terminal) as answers:
            console = Console(status=Terminal(), colour=False, answers=answers)
            os.write(person, b"\n")
            assert select.select([answers], [], [], 20)[0]
            console.ask("now?")
            assert console.answer() is None
            os.write(person, b"y\n")
            assert select.select([answers], [], [], 20)[0]
            assert console.answer() == "y"
    finally:
        os.close(person)


def test_a_line_of_another_thread_does_not_tear_a_step() -> None:
    status = Terminal()
    console = Console(status=status, colour=False)
    with console.step("images") as step:
        step.progress("one")
        console.success("saved")
    shown = status.getvalue()
    assert "\r\x1b[2K✓ saved\n  images: one …" in shown
    assert shown.endswith("\r\x1b[2K✓ images (0.0 s)\n")


def test_only_a_terminal_on_both_sides_is_interactive() -> None:
    assert Console(status=Terminal(), answers=Terminal()).interactive
    assert not Console(status=Terminal(), answers=io.StringIO()).interactive
    assert not Console(status=io.StringIO(), answers=Terminal()).interactive
