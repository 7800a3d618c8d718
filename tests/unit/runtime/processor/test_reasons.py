from __future__ import annotations

import pytest

from windsock.runtime.processor.reasons import NO_DAG, imported_words, no_dag


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        (
            "@dag(schedule=None)\ndef sales():\n    pass\n",
            2,
            "sales is never called: add `sales()`",
        ),
        ("import airflow.sdk as a\n@a.dag\ndef sales(): ...\n", 3, "add `sales()`"),
        ("def make():\n    return DAG('x')\n", 2, "nothing at the top of the module keeps it"),
        ("@dag\ndef sales(): ...\nsales()\n", None, NO_DAG),
        ("import airflow\n", None, NO_DAG),
        ("this is no Python", None, NO_DAG),
        ("x = '\\d'\n" + "(" * 5000, None, NO_DAG),
    ],
)
def test_a_source_says_why_it_makes_no_dag(source: str, line: int | None, reason: str) -> None:
    found, message = no_dag(source.encode())
    assert found == line
    assert reason in message


def test_words_of_imports_are_found_wherever_they_stand() -> None:
    source = b"from lib.names import one as two  # three\ndef f():\n\timport four.five\nsix = 1\n"
    source += b"from . import seven\nfrom lib import (\n    eight,\n    nine,\n)\n"
    assert imported_words(source) == {
        b"lib": {b"lib", b"names", b"import", b"one", b"as", b"two", b"eight", b"nine"},
        b"four": {b"four", b"five"},
        b"": {b"import", b"seven"},
    }
