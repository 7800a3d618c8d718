from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.runtime.processor.texts import LONGEST_TEXT, describe, storable, unstorable

anything = st.text(alphabet=st.characters(exclude_categories=()))


@given(anything)
def test_a_storable_text_is_whole_and_has_no_nul(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode()


@given(st.text(alphabet=st.characters(exclude_characters="\0")))
def test_a_text_that_can_be_stored_stays_as_it_is(text: str) -> None:
    assert storable(text) == text


def test_a_text_without_end_keeps_its_begin_and_its_end() -> None:
    stored = storable("first " + "x" * LONGEST_TEXT + " last")
    assert stored.startswith("first xx")
    assert stored.endswith("xx last")
    assert "\n[11 characters left out]\n" in stored


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"dag": {"tasks": [{"doc": "sound"}]}}, ""),
        ({"dag": {"tasks": [{}, {"doc": "half \ud800"}]}}, "dag.tasks.1.doc"),
        ({"params": {"\udcff": 1}}, "params.'\\udcff'"),
        ({"not json": {1, 2}}, ""),
    ],
)
def test_half_a_character_is_found(data: object, place: str) -> None:
    assert unstorable(data) == place


def test_an_error_is_described_in_one_line() -> None:
    assert describe(ValueError("a\0b\nsecond line")) == "ValueError: a\\x00b"
