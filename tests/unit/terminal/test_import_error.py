"""Faults that authors make, raised by real files, and what the terminal must show of each."""

from __future__ import annotations

import runpy
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.terminal.import_error import HEADER, Explained, explain
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Explained]:
    """Writes files, runs `sales.py` among them, and explains how it fails."""
    dags = tmp_path / "dags"
    dags.mkdir()
    for name in ("library", "library_syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "libraries"))

    def run(source: str, **others: str) -> Explained:
        for name, text in {"sales": source, **others}.items():
            folder = tmp_path / "libraries" if name.startswith("library") else dags
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        try:
            runpy.run_path(str(dags / "sales.py"))
        except BaseException:  # noqa: BLE001 - authors raise anything
            return explain(traceback.format_exc(), places=Places(str(dags), here=str(dags)))
        raise AssertionError("it did not fail")

    return run


FAULTS = {
    "a plain exception": (
        "count = 1\nprint(day)\n",
        "sales.py:2",
        "NameError: name 'day' is not defined",
    ),
    "a syntax error": ("def load(:\n    pass\n", "sales.py:1", "SyntaxError: invalid syntax"),
    "an exception without a message": (
        "def load():\n    raise ValueError\n\nload()\n",
        "sales.py:2",
        "ValueError",
    ),
    "a group": (
        'raise ExceptionGroup("bad config", [ValueError("no day"), KeyError("region")])\n',
        "sales.py:1",
        "ExceptionGroup: bad config (2 sub-exceptions)",
    ),
    "a message of several lines": (
        'raise ValueError("1 error for Config\\nday\\n  is missing\\nFor more visit the docs")\n',
        "sales.py:1",
        "ValueError: 1 error for Config",
    ),
    "a message that quotes a traceback": (
        'raise RuntimeError("it ended:\\nTraceback (most recent call last):\\nKeyError: 1")\n',
        "sales.py:1",
        "RuntimeError: it ended:",
    ),
    "notes": (
        'error = KeyError("day")\nerror.add_note("see the settings\\nor the docs")\nraise error\n',
        "sales.py:3",
        "KeyError: 'day'",
    ),
    "a direct cause": (
        'try:\n  {}["day"]\nexcept KeyError as error:\n  raise ValueError("no day") from error\n',
        "sales.py:4",
        "ValueError: no day",
    ),
    "an error in an except block": (
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    None.load\n",
        "sales.py:4",
        "AttributeError: 'NoneType' object has no attribute 'load'",
    ),
    "an exit": ('raise SystemExit("no day")\n', "sales.py:1", "SystemExit: no day"),
    "an assertion": ("assert 1 == 2, 'it\\nhas lines'\n", "sales.py:1", "AssertionError: it"),
    "a recursion": (
        "def load():\n    load()\n\nload()\n",
        "sales.py:2",
        "RecursionError: maximum recursion depth exceeded",
    ),
    "a module that is missing": (
        "import shop.till\n",
        "sales.py:1",
        "ModuleNotFoundError: No module named 'shop'",
    ),
}


@pytest.mark.parametrize(("source", "place", "headline"), FAULTS.values(), ids=FAULTS)
def test_the_headline_is_the_exception_and_its_first_line(
    fail: Callable[..., Explained], source: str, place: str, headline: str
) -> None:
    error = fail(source)
    assert (error.place, error.headline) == (place, headline)
    assert headline not in error.details


def test_the_place_is_the_authors_though_a_library_raises(fail: Callable[..., Explained]) -> None:
    error = fail(
        "from library import read\n\nread()\n",
        library="def read():\n    raise ValueError('while parsing\\n  line 1, column 2\\n    ^')\n",
    )
    assert (error.place, error.headline) == ("sales.py:3", "ValueError: while parsing")
    assert error.details == [
        '  File "sales.py", line 3, in <module>',
        "    read()",
        "  line 1, column 2",
        "    ^",
    ]


def test_what_a_group_holds_is_below_the_headline(fail: Callable[..., Explained]) -> None:
    error = fail(FAULTS["a group"][0])
    text = "\n".join(error.details)
    assert text.index("| ValueError: no day") < text.index("| KeyError: 'region'")
    assert 'File "sales.py", line 1' in text


def test_a_cause_is_shown_first_as_python_shows_it(fail: Callable[..., Explained]) -> None:
    text = "\n".join(fail(FAULTS["a direct cause"][0]).details)
    assert text.index("KeyError: 'day'") < text.index("was the direct cause")


def test_a_syntax_error_in_a_module_is_at_the_module(fail: Callable[..., Explained]) -> None:
    error = fail("import library_syntax\n", library_syntax="def load(:\n")
    assert (error.place, error.headline) == ("sales.py:1", "SyntaxError: invalid syntax")


@pytest.mark.parametrize("text", ["", " \n", "killed by signal 9", "killed:\n  memory\n"])
def test_what_is_no_traceback_is_shown_as_it_is(text: str) -> None:
    error = explain(text, places=Places("/dags"))
    assert error.place == ""
    assert error.headline == (text.strip().partition("\n")[0] or "import failed")


PIECES = [*"ab\n |+", '  File "/dags/a.py", line 1', "    code"]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_nothing_is_too_odd_and_nothing_is_doubled(pieces: list[str]) -> None:
    trace = "".join(pieces)
    error = explain(trace, places=Places("/dags"))
    assert error.headline
    assert len(error.details) < max(len(trace.splitlines()), 1)


@pytest.mark.parametrize("folder", ["/home/me/dags/include", "/home/me/shared"])
def test_a_frame_in_a_further_folder_is_the_authors(folder: str) -> None:
    trace = (
        f'{HEADER}\n  File "/venv/airflow/importer.py", line 9, in parse\n    load()\n'
        '  File "/home/me/dags/broken.py", line 3, in <module>\n    import include.half\n'
        f'  File "{folder}/half.py", line 1, in <module>\n    1 / 0\n'
        "ZeroDivisionError: division by zero\n"
    )
    places = Places("/home/me/dags", {"include": "/home/me/shared"}, here="/home/me")
    error = explain(trace, places=places)
    assert error.place == "shared/half.py:1"
    assert error.headline == "ZeroDivisionError: division by zero"
    assert error.details[0] == '  File "dags/broken.py", line 3, in <module>'


AIRFLOW_FRAME = (
    '  File "/venv/lib/python3.11/site-packages/airflow/importer.py", line 9, in parse\n'
)


def explained(*lines: str) -> Explained:
    trace = "\n".join([HEADER, AIRFLOW_FRAME + "    load()", *lines])
    return explain(trace, places=Places("/home/me/dags", here="/home/me"), path="slow.py")


def test_a_timeout_says_after_how_long_and_has_no_advice_of_airflow() -> None:
    error = explained(
        '  File "/home/me/dags/slow.py", line 1, in <module>',
        "    while True: pass",
        "airflow.sdk.exceptions.AirflowTaskTimeout: DagBag import timeout for "
        "/home/me/dags/slow.py after 3.0s.",
        "Please take a look at these docs to improve your DAG import time:",
        "* https://airflow.apache.org/docs/best-practices.html#top-level-python-code",
        "* https://airflow.apache.org/docs/best-practices.html#reducing-dag-complexity, PID: 7",
    )
    assert error.place == "dags/slow.py:1"
    assert error.headline == "AirflowTaskTimeout: the import had not ended after 3.0 s"
    assert error.details == ['  File "dags/slow.py", line 1, in <module>', "    while True: pass"]
    assert "parse.import_timeout" in error.remedy


def test_an_exception_of_airflow_is_named_without_its_module() -> None:
    error = explained("airflow.sdk.exceptions.DuplicateTaskIdFound: Task id 'a' is there")
    assert error.headline == "DuplicateTaskIdFound: Task id 'a' is there"
    assert explained("yaml.scanner.ScannerError: no").headline == "yaml.scanner.ScannerError: no"


def test_a_message_that_begins_with_an_empty_line_is_not_left_out() -> None:
    error = explained("ValueError: ", "no day", "no region")
    assert error.headline == "ValueError: no day"
    assert error.details == ["no region"]


def test_airflows_name_for_the_module_of_a_dag_file_is_not_shown() -> None:
    error = explained(f"TypeError: <unusual_prefix_{'a1' * 20}_slow.X object> is no string")
    assert error.headline == "TypeError: <slow.X object> is no string"


def test_of_an_endless_recursion_the_begin_and_the_end_are_shown() -> None:
    frames = [f'  File "/home/me/dags/slow.py", line {number}, in f' for number in range(900)]
    error = explained(*frames, "RecursionError: maximum recursion depth exceeded")
    assert error.place == "dags/slow.py:899"
    assert len(error.details) == 61
    assert error.details[30] == "  [840 lines left out]"
    assert error.details[-1] == '  File "dags/slow.py", line 899, in f'


def test_the_place_of_a_file_is_named_once() -> None:
    assert explain("a.py: it hangs", places=Places("/dags"), path="a.py").headline == "it hangs"


def test_a_place_without_a_function_is_part_of_what_is_said() -> None:
    error = explained(
        '  File "/home/me/dags/slow.py", line 1, in <module>',
        "    import foo",
        '  File "/venv/lib/python3.11/site-packages/foo.py", line 7',
        "    def load(:",
        "             ^",
        "SyntaxError: invalid syntax",
    )
    assert error.details[2:] == [
        '  File "/venv/lib/python3.11/site-packages/foo.py", line 7',
        "    def load(:",
        "             ^",
    ]
    error = explained("jinja2.TemplateError: no end", '  File "a.html", line 2', "    {% if day %}")
    assert error.details == ['  File "a.html", line 2', "    {% if day %}"]


QUOTES = """\
def one():
    try:
        {}["day"]
    except KeyError as error:
        raise ValueError("no day") from error

import traceback
try:
    one()
except ValueError:
    text = traceback.format_exc()
raise RuntimeError("child failed:\\n" + text)
"""


def test_frames_and_chains_that_a_message_quotes_are_its_message(
    fail: Callable[..., Explained],
) -> None:
    error = fail(QUOTES)
    assert (error.place, error.headline) == ("sales.py:12", "RuntimeError: child failed:")
    assert "KeyError: 'day'" in error.details
    assert error.details[-1] == "ValueError: no day"
    child = "text.replace('Traceback (most recent call last):\\n', HEAD)"
    head = "'Traceback (most recent call last):\\n  File \"<frozen runpy>\", line 9, in main\\n'"
    error = fail(QUOTES.replace('" + text', f'" + {child.replace("HEAD", head)}'))
    assert error.headline == "RuntimeError: child failed:"
    indented = QUOTES.replace("    text = ", "    raise RuntimeError('again:\\n' + ").replace(
        "format_exc()", "format_exc())"
    )
    error = fail(indented)
    assert (error.place, error.headline) == ("sales.py:11", "RuntimeError: again:")


def test_a_message_can_begin_with_empty_lines_and_a_type_with_a_small_letter() -> None:
    error = explained("f.My: ", "", "  ", "no day in /home/me/dags/slow.py", "no region")
    assert error.headline == "f.My: no day in dags/slow.py"
    assert error.details == ["no region"]
    assert explained("mine.my_error:", "no day").headline == "mine.my_error: no day"


def test_the_sentence_between_two_exceptions_is_no_headline() -> None:
    trace = (
        "KeyError: 1\n\nThe above exception was the direct cause of the following exception:\n\n"
        '  File "/dags/slow.py", line 2\n    def load(:\nSyntaxError: invalid syntax\n'
    )
    assert explain(trace, places=Places("/dags")).headline == "SyntaxError: invalid syntax"
