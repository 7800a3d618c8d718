from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.store.entries import (
    Refusal,
    Row,
    canonical,
    checked_entries,
    checked_path,
    folders_of,
    identify,
    link_stays_inside,
    refusal_of,
)

DIGEST = "0" * 40
ROWS = st.builds(
    lambda mode, size, digest: ("file", mode, size, digest),
    st.integers(0, 0o777),
    st.integers(0, 10**9),
    st.text("0123456789abcdef", min_size=40, max_size=40),
)
TREES = st.dictionaries(st.text(min_size=1), ROWS, max_size=6)


@given(entries=TREES, seed=st.randoms())
def test_the_tree_id_does_not_depend_on_order(entries: dict[str, Row], seed: st.Random) -> None:  # type: ignore[name-defined]  # hypothesis does not export the type
    shuffled = list(entries.items())
    seed.shuffle(shuffled)
    assert canonical(dict(shuffled)) == canonical(entries)


@given(one=TREES, other=TREES)
def test_trees_have_the_same_id_only_if_they_are_equal(
    one: dict[str, Row], other: dict[str, Row]
) -> None:
    assert (identify(canonical(one)) == identify(canonical(other))) == (one == other)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "\udcff", "x" * 5000]
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(Refusal) as refused:
        checked_path(path)
    assert refused.value.code == "bad_path"


@pytest.mark.parametrize("path", ["a", "a/b.py", "...", "a b\n", "é/😀.py", "..a", "-rf"])
def test_odd_but_safe_paths_are_taken(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        ["file", 0o644, 1],
        ["file", "644", 1, DIGEST],
        ["file", True, 1, DIGEST],
        ["file", 0o4755, 1, DIGEST],
        ["file", 0o644, -1, DIGEST],
        ["file", 0o644, 1, "zz"],
        ["device", 0, 0, DIGEST],
        ["link", 0, 0, "/etc/passwd"],
        ["link", 0, 0, "../../x"],
        ["link", 0, 0, ""],
    ],
)
def test_malformed_entries_are_refused(row: object) -> None:
    with pytest.raises(Refusal):
        checked_entries({"sub/x": row})


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("a", "b", True),
        ("a", "../b", False),
        ("d/a", "../b", True),
        ("d/a", "../../b", False),
        ("d/a", "..", True),
        ("a", "/b", False),
        ("a", "d/../../b", False),
        ("a", "..b", True),
    ],
)
def test_a_link_is_judged_by_its_text(path: str, target: str, *, inside: bool) -> None:
    assert link_stays_inside(path, target) is inside


def test_folders_are_all_ancestors() -> None:
    assert folders_of(["a", "b/c", "b/d/e/f"]) == {"b", "b/d", "b/d/e"}


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "no_space"),
        (errno.EDQUOT, "no_space"),
        (errno.EROFS, "not_writable"),
        (errno.EACCES, "not_writable"),
        (errno.EIO, "input_output"),
    ],
)
def test_errors_of_the_system_become_reasons(number: int, code: str) -> None:
    assert refusal_of(OSError(number, "why")).code == code
