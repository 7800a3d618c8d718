from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windsock.testing.uses import dags_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

FIXTURES = """
import pytest

@pytest.fixture
def sold(airflow):
    return airflow.run("sales")

@pytest.fixture
def handed_on(airflow):
    return airflow
"""


@pytest.fixture
def uses(pytester: pytest.Pytester) -> Callable[[str], set[str] | None]:
    def ask(text: str) -> set[str] | None:
        pytester.makeconftest(FIXTURES)
        (item,) = pytester.getitems("import pytest\n" + text)
        found = dags_of(item)
        return None if found is None else set(found)

    return ask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('def test_it(airflow):\n    airflow.run("sales")', {"sales"}),
        ('def test_it(airflow):\n    airflow.trigger(dag_id="sales").wait()', {"sales"}),
        (
            (
                "def test_it(airflow):\n"
                '    run = airflow.run("a", conf={"x": 1})\n'
                '    airflow.wait_for_run("b", after=run)'
            ),
            {"a", "b"},
        ),
        ('def test_it(sold, airflow):\n    airflow.run("stock")', {"sales", "stock"}),
        ("def test_it(sold):\n    assert sold", {"sales"}),
        (
            (
                '@pytest.mark.parametrize("dag_id", ["sales"])\n'
                "def test_it(airflow, dag_id):\n    airflow.run(dag_id)"
            ),
            {"sales"},
        ),
        (
            'class TestIt:\n    def test_it(self, airflow):\n        airflow.run("sales")',
            {"sales"},
        ),
        ('@pytest.mark.dag("a", "b")\ndef test_it(handed_on):\n    ...', {"a", "b"}),
        (
            (
                "def test_it(airflow):\n"
                '    with airflow.variables({"x": "1"}):\n        airflow.run("sales")'
            ),
            {"sales"},
        ),
    ],
)
def test_the_dags_that_a_test_names_are_found(
    uses: Callable[[str], set[str] | None], text: str, expected: set[str]
) -> None:
    assert uses(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "def test_it():\n    pass",
        'def test_it(airflow):\n    airflow.run("sa" + "les")',
        'def test_it(airflow):\n    airflow.run(f"{1}")',
        'def test_it(airflow):\n    airflow.run("a")\n    helper(airflow)',
        'def test_it(airflow):\n    airflow.run("a")\n    other = airflow',
        'def test_it(airflow):\n    airflow.run("a")\n    airflow.api.trigger("b")',
        'def test_it(airflow, handed_on):\n    airflow.run("a")\n    handed_on.run("b")',
        'def test_it(airflow, request):\n    airflow.run("a")',
        'def test_it(airflow, windsock_session):\n    airflow.run("a")',
        'def test_it(airflow):\n    name = "a"\n    airflow.run(name)',
        (
            '@pytest.mark.parametrize("name", ["a"])\n'
            'def test_it(airflow, name):\n    name = "b"\n    airflow.run(name)'
        ),
        "def test_it(airflow):\n    airflow.run(*['a'])",
    ],
)
def test_what_cannot_be_read_for_sure_is_unknown(
    uses: Callable[[str], set[str] | None], text: str
) -> None:
    assert uses(text) is None
