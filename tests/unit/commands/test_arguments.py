from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke import Collection, Context, Program, task

from windsock.commands.arguments import LenientTask

CALLS: list[dict[str, Any]] = []


@task(klass=LenientTask, positional=["word"], help={"word": "Any."})
def one(_context: Context, word: str = "", loud: bool = False, times: int = 1) -> None:
    CALLS.append({"word": word, "loud": loud, "times": times})


@task(klass=LenientTask, positional=["words"], iterable=["words"])
def many(_context: Context, words: list[str] | None = None, k: str = "") -> None:
    CALLS.append({"words": words, "k": k})


@task(positional=["word"])
def strict(_context: Context, word: str, seconds: float = 1.0) -> None:
    CALLS.append({"word": word, "seconds": seconds})


def run(line: str | list[str]) -> list[dict[str, Any]]:
    """What the tasks of a command line were called with."""
    CALLS.clear()
    arguments = line.split() if isinstance(line, str) else line
    Program(namespace=Collection(one, many, strict)).run(["invoke", *arguments])
    return list(CALLS)


def failure(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """The exit code and the words that a wrong command line ends with."""
    with pytest.raises(SystemExit) as caught:
        run(line)
    assert CALLS == []
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("one", {"word": "", "loud": False, "times": 1}),
        ("one hello", {"word": "hello", "loud": False, "times": 1}),
        ("one hello --loud", {"word": "hello", "loud": True, "times": 1}),
        ("one --loud hello", {"word": "hello", "loud": True, "times": 1}),
        ("one --times 3 hello", {"word": "hello", "loud": False, "times": 3}),
        ("one --times=3", {"word": "", "loud": False, "times": 3}),
        ("one -t 3 -l", {"word": "", "loud": True, "times": 3}),
        ("many", {"words": [], "k": ""}),
        ("many a", {"words": ["a"], "k": ""}),
        ("many a b.py c", {"words": ["a", "b.py", "c"], "k": ""}),
        ("many a -k load b", {"words": ["a", "b"], "k": "load"}),
        ("strict x", {"word": "x", "seconds": 1.0}),
        ("strict x --seconds 2.5", {"word": "x", "seconds": 2.5}),
    ],
)
def test_a_positional_argument_with_a_default_may_be_left_out(
    line: str, call: dict[str, Any]
) -> None:
    assert run(line) == [call]


def test_each_call_has_words_of_its_own() -> None:
    assert run("many a b") == [{"words": ["a", "b"], "k": ""}]
    assert run("many") == [{"words": [], "k": ""}]


@given(st.lists(st.from_regex(r"[a-z./][a-z0-9./_:-]*", fullmatch=True), max_size=5))
def test_any_words_arrive_as_they_were_given(words: list[str]) -> None:
    assert run(["many", *words]) == [{"words": words, "k": ""}]


def test_a_word_may_be_named_like_a_task() -> None:
    assert run("one strict") == [{"word": "strict", "loud": False, "times": 1}]


def test_a_word_too_many_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = failure("one a b", capsys)
    assert code == 1
    assert "'b'" in said


def test_a_positional_argument_without_a_default_is_still_required(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = failure("strict", capsys)
    assert code == 1
    assert "'word'" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("one --times many", "--times is 'many': it must be a whole number"),
        ("one --times=1.5", "--times is '1.5': it must be a whole number"),
        ("strict x --seconds soon", "--seconds is 'soon': it must be a number"),
    ],
)
def test_a_number_that_is_none_is_a_sentence(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failure(line, capsys) == (2, words + "\n")


def test_help_shows_the_positional_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help one")
    assert caught.value.code == 0
    assert "--times" in capsys.readouterr().out
