from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from windsock.local.logs import Tail, follow_logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


class Script:
    """Does the next thing whenever the reader would sleep; ends the reading after the last."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self._actions = iter(actions)

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        try:
            action = next(self._actions)
        except StopIteration:
            raise KeyboardInterrupt from None
        action()


def _read(
    files: dict[str, Path], script: Script, *, lines: int = 0, prefixed: bool = False
) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        found.extend(follow_logs(files, follow=True, lines=lines, prefixed=prefixed, sleep=script))
    return found


def _append(path: Path, text: str) -> Callable[[], object]:
    def append() -> None:
        with path.open("a") as file:
            file.write(text)

    return append


def test_the_last_lines_of_each_log_with_its_name(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("sync", "scheduler")}
    for name, path in files.items():
        path.write_text("".join(f"{name} {number}\n" for number in range(5)))
    assert list(follow_logs(files, follow=False, lines=2, prefixed=True)) == [
        "sync      | sync 3",
        "sync      | sync 4",
        "scheduler | scheduler 3",
        "scheduler | scheduler 4",
    ]
    assert list(follow_logs(files, follow=False, lines=0, prefixed=False)) == []


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "late.log"
    assert list(follow_logs({"late": path}, follow=False, lines=9, prefixed=False)) == []
    assert _read({"late": path}, Script(lambda: None, _append(path, "here\n"))) == ["here"]


def test_new_lines_come_as_they_are_written_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old\nolder")
    script = Script(_append(path, " and ne"), _append(path, "w\nnext\n"))
    assert _read({"a": path}, script, lines=5) == ["old", "older and new", "next"]


def test_a_rotated_log_is_read_to_its_end_and_again_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\n")

    def rotate() -> None:
        _append(path, "last\n")()
        path.rename(tmp_path / "a.log.1")
        path.write_text("first\n")

    script = Script(rotate, _append(path, "second\n"))
    assert _read({"a": path}, script, lines=1) == ["one", "last", "first", "second"]


def test_what_is_no_text_does_not_end_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"\xff\xfe binary\nfine\n")
    lines = list(follow_logs({"a": path}, follow=False, lines=9, prefixed=False))
    assert lines[1] == "fine"
    assert len(lines) == 2


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=5)), st.data())
def test_no_line_is_lost_or_split_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
) -> None:
    """The characters that `str.splitlines` knows beside the newline end no line here."""
    path = tmp_path_factory.mktemp("logs") / "a.log"
    path.touch()
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    tail = Tail(name="a", path=path)
    found: list[str] = []
    for start, end in itertools.pairwise([0, *cuts, len(content)]):
        with path.open("ab") as file:
            file.write(content[start:end])
        found += tail.new()
    assert found == content.decode("utf-8", "replace").split("\n")[:-1]
    tail.close()
