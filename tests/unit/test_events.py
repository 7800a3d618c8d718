from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock import events

RECORDS = events.Event.__subclasses__()

PARSED = events.Parsed(
    snapshot="a", file="x.py", dags={"x": 2}, errors={"x.py": "no"}, seconds=0.5, news=True
)

any_event = st.one_of(*(st.from_type(record) for record in RECORDS))


@settings(max_examples=40)
@given(any_event)
def test_an_event_comes_back_from_its_line(event: events.Event) -> None:
    line = events.to_line(event)
    assert line.count(b"\n") == 1
    assert repr(events.from_line(line)) == repr(event)  # NaN equals nothing
    assert json.loads(line)["schema"] == events.SCHEMA


@settings(max_examples=40)
@given(any_event, st.data())
def test_a_cut_line_is_no_event(event: events.Event, data: st.DataObject) -> None:
    line = events.to_line(event).rstrip()
    cut = line[: data.draw(st.integers(0, len(line) - 1))]
    assert events.from_line(cut) is None


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=40)
@given(any_event, st.data())
def test_a_line_with_any_value_in_a_field_raises_nothing(
    event: events.Event, data: st.DataObject
) -> None:
    value = json.loads(events.to_line(event))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(json_values)
    found = events.from_json(value)
    assert found is None or isinstance(found, events.Event)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type": "resumed"}',
        b'{"schema": 2, "type": "resumed"}',
        b'{"schema": 1}',
        b'{"schema": 1, "type": "dance"}',
        b'{"schema": 1, "type": ["resumed"]}',
        b'{"schema": 1, "type": "behind"}',
        b'{"schema": 1, "type": "behind", "count": true}',
        b'{"schema": 1, "type": "parsing", "snapshot": "a", "files": "x.py"}',
        b'{"schema": 1, "type": "processor-state", "snapshot": null, "awaited": [], "files": [1]}',
    ],
)
def test_what_is_no_event_of_this_schema_is_passed_over(line: bytes) -> None:
    assert events.from_line(line) is None


def test_a_field_that_is_not_known_is_passed_over_and_one_with_a_default_may_be_missing() -> None:
    line = b'{"schema": 1, "type": "settled", "snapshot": "a", "seconds": 1, "colour": "green"}'
    assert events.from_line(line) == events.Settled(snapshot="a", seconds=1.0)


def test_the_state_of_the_dag_processor_contains_whole_records() -> None:
    state = events.ProcessorState(snapshot=None, awaited=("y.py",), files=(PARSED,))
    assert events.from_line(events.to_line(state)) == state


# --- docs/events.md -------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/events.md").read_text(encoding="utf-8")
NAMES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str | None": "string or null",
    "int | None": "integer or null",
    "float | None": "number or null",
    "tuple[str, ...]": "list of strings",
    "tuple[Parsed, ...]": "list of `parsed`",
    "tuple[FileWarning, ...]": "list of `file-warning`",
    "dict[str, int]": "object: string → integer",
    "dict[str, str]": "object: string → string",
}


def _documented() -> dict[str, dict[str, str]]:
    """Type → field → JSON type, as the page has them."""
    found: dict[str, dict[str, str]] = {}
    for name, text in re.findall(r"^### `(\S+)`$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE)
        found[name] = dict(rows)
    return found


def test_the_page_describes_every_event_and_field() -> None:
    assert _documented() == {
        events.type_of(record): {field.name: NAMES[str(field.type)] for field in fields(record)}
        for record in RECORDS
    }


def test_the_page_describes_each_event_as_the_code_does() -> None:
    for record in RECORDS:
        summary = re.escape(f"### `{events.type_of(record)}`\n\n{inspect.getdoc(record)}\n")
        assert re.search(summary, PAGE), record


def test_the_example_of_the_page_is_made_of_events() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith('{"schema"')]
    assert len(lines) > 2
    assert all(events.from_line(line) for line in lines)
