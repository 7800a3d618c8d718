from __future__ import annotations

import pytest

from windsock.runtime import worker


def test_the_executors_arguments_are_those_of_the_program_after_its_name() -> None:
    arguments = [*worker.PREFIX, "--json-string", '{"ti": 1}']
    assert worker.options(arguments) == ["--json-string", '{"ti": 1}']


@pytest.mark.parametrize("option", ["--json-string", "--json-path"])
def test_by_hand_the_options_suffice(option: str) -> None:
    assert worker.options([option, "value"]) == [option, "value"]


@pytest.mark.parametrize("arguments", [[], ["airflow", "tasks", "run"], ["python", "-m", "other"]])
def test_another_program_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        worker.options(arguments)
    assert worker.PROGRAM in str(caught.value)
