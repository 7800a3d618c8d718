from __future__ import annotations

import io
import json
import os
import re
import select

import pytest

from windsock.errors import EnvironmentFailure
from windsock.terminal.console import Console


class Terminal(io.StringIO):
    """A terminal whose lines can be read."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """Without colours, as a person reads them."""
        rows, row = [""], 0
        for part in re.split(r"(\x1b\[[0-9;?]*[a-zA-Z]|[\r\n])", self.getvalue()):
            if part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part == "\x1b[2K":
                rows[row] = ""
            elif part == "\x1b[1A":
                row -= 1
            elif part != "\r" and not part.startswith("\x1b"):
                rows[row] += part
        return rows


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


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
    coloured = Terminal()
    Console(status=coloured).failure("it")
    assert coloured.getvalue() == "\x1b[31m✗ \x1b[0mit\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Console(status=plain).failure("it")
    assert plain.getvalue() == "✗ it\n"


@pytest.mark.parametrize("text", ["a [bold] :smile: 17 'x'", "word " * 60, "\udcff.py", ""])
def test_a_terminal_gets_each_line_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    status = Terminal()
    Console(status=status).line(text)
    assert status.getvalue() == f"{text}\n"


def test_an_authors_text_changes_nothing_on_the_terminal() -> None:
    data, status = io.StringIO(), io.StringIO()
    Console(status=status).failure("a\x1b[2J\x07b\tc")
    assert status.getvalue() == "✗ a\\x1b[2J\\x07b\tc\n"
    Console(data=data, status=status).table([["\x1b]0;title\x07"]])
    assert data.getvalue() == "\\x1b]0;title\\x07\n"


def test_a_table_stands_in_columns_without_blanks_at_its_end() -> None:
    data, status = io.StringIO(), io.StringIO()
    console = Console(data=data, status=status)
    console.table([("sales", "sales.py", ""), ("x" * 200, "[a].py", "(paused)")])
    assert data.getvalue() == f"{'sales':<200}  sales.py\n{'x' * 200}  [a].py    (paused)\n"
    console.outcomes([("success", ["postgres", "running"]), ("failure", ["scheduler", "failed"])])
    assert status.getvalue() == "✓ postgres   running\n✗ scheduler  failed\n"


def test_a_table_on_a_narrow_terminal_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    data = Terminal()
    Console(data=data).table([("sales_of_yesterday", "folder/sales.py")])
    shown = "".join(data.getvalue().split())
    assert sorted(shown) == sorted("sales_of_yesterday" + "folder/sales.py")
    assert max(map(len, data.lines)) <= 20


def test_an_error_is_its_message_and_its_hint_line_by_line() -> None:
    status = io.StringIO()
    Console(status=status).error(EnvironmentFailure("it broke", "first\nsecond"))
    assert status.getvalue() == "✗ it broke\n  first\n  second\n"


def test_json_is_one_document_in_a_steady_order() -> None:
    data = io.StringIO()
    Console(data=data).json({"b": 1, "a": {"é": None}})
    assert json.loads(data.getvalue()) == {"a": {"é": None}, "b": 1}
    assert data.getvalue().index('"a"') < data.getvalue().index('"b"')


def test_a_step_shows_its_detail_and_its_time() -> None:
    status, clock = io.StringIO(), Clock()
    with Console(status=status, clock=clock).step("PostgreSQL") as step:
        step.progress("waiting")
        step.detail = "port 5433"
        clock.now = 1.26
    assert status.getvalue() == "✓ PostgreSQL: port 5433 (1.3 s)\n"


@pytest.mark.parametrize("error", [EnvironmentFailure("no"), KeyboardInterrupt()])
def test_a_step_that_fails_shows_that_and_raises_the_failure(error: BaseException) -> None:
    status, clock = io.StringIO(), Clock()
    with (
        pytest.raises(type(error)),
        Console(status=status, clock=clock).step("PostgreSQL"),
    ):
        raise error
    assert status.getvalue() == "✗ PostgreSQL (0.0 s)\n"


def test_a_terminal_shows_what_a_step_is_doing_below_the_lines_of_others() -> None:
    status, clock = Terminal(), Clock()
    console = Console(status=status, clock=clock)
    with console.step("Airflow") as step:
        step.progress("waiting for scheduler")
        clock.now = 2.0
        console.success("saved")
        *lines, last = status.lines
        assert lines == ["✓ saved"]
        assert last[1:] == " Airflow: waiting for scheduler (2 s)"
    assert status.lines == ["✓ saved", "✓ Airflow (2.0 s)", ""]


def test_a_step_in_a_narrow_terminal_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    status = Terminal()
    console = Console(status=status, clock=Clock())
    with console.step("Airflow") as step:
        step.progress("waiting for the scheduler, the triggerer and others")
        console.line("saved")
        assert max(map(len, status.lines)) <= 20
    assert [line for line in status.lines if line] == ["saved", "✓ Airflow (0.0 s)"]


def test_a_question_stays_the_last_line_and_is_answered_from_the_input() -> None:
    reading, writing = os.pipe()
    status = Terminal()
    with os.fdopen(reading) as answers, os.fdopen(writing, "w") as person:
        console = Console(status=status, answers=answers)
        console.ask("now?")
        console.success("saved")
        assert status.lines == ["✓ saved", "? now? "]
        assert console.answer() is None
        person.write("y\n")
        person.flush()
        status.write("y\n")  # The terminal's echo.
        assert console.answer() == "y"
        console.success("done")
        assert status.lines == ["✓ saved", "? now? y", "✓ done", ""]
        person.close()
        assert console.answer() == ""


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), (" YES \n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_a_question_that_is_waited_for_is_agreed_to_by_a_yes_only(typed: str, yes: bool) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as answers, os.fdopen(writing, "w") as person:
        console = Console(status=Terminal(), answers=answers)
        person.write(typed)
        person.close()
        assert console.confirm("now?") is yes


def test_a_question_that_is_withdrawn_leaves_nothing_behind() -> None:
    status = Terminal()
    console = Console(status=status, answers=io.StringIO())
    console.ask("now?")
    console.withdraw()
    console.line("saved")
    assert status.lines == ["saved", ""]


def test_what_was_typed_before_the_question_is_no_answer_to_it() -> None:
    person, terminal = os.openpty()
    try:
        with os.fdopen(terminal) as answers:
            console = Console(status=Terminal(), answers=answers)
            os.write(person, b"\n")
            assert select.select([answers], [], [], 20)[0]
            console.ask("now?")
            assert console.answer() is None
            os.write(person, b"y\n")
            assert select.select([answers], [], [], 20)[0]
            assert console.answer() == "y"
    finally:
        os.close(person)


def test_only_a_terminal_on_both_sides_is_interactive() -> None:
    assert Console(status=Terminal(), answers=Terminal()).interactive
    assert not Console(status=Terminal(), answers=io.StringIO()).interactive
    assert not Console(status=io.StringIO(), answers=Terminal()).interactive
