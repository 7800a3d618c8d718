from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from windsock.store import usage
from windsock.store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Volume(NamedTuple):
    f_blocks: int
    f_frsize: int


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The snapshots that were walked."""
    found: list[str] = []

    def walk(root: bytes) -> Iterator[tuple[str, os.DirEntry[bytes]]]:
        found.append(os.path.basename(root).decode())  # noqa: PTH119 - bytes
        with os.scandir(root) as items:
            for item in items:
                yield os.fsdecode(item.name), item

    monkeypatch.setattr(usage, "walk", walk)
    return found


def snapshot(folder: Path, name: str, **files: bytes) -> None:
    (folder / name).mkdir()
    for file, content in files.items():
        (folder / name / file).write_bytes(content)


def test_hardlinks_count_once_and_each_snapshot_is_walked_once(
    tmp_path: Path, walked: list[str]
) -> None:
    snapshot(tmp_path, "one", a=bytes(100_000), b=bytes(50_000))
    snapshot(tmp_path, "two")
    (tmp_path / "two" / "a").hardlink_to(tmp_path / "one" / "a")
    sizes = {name: (tmp_path / "one" / name).stat().st_blocks * 512 for name in "ab"}
    used = Usage(os.fsencode(tmp_path))
    for _ in range(3):
        list(used.look(["one", "two"]))
        assert used.bytes_of(["one", "two"]) == sizes["a"] + sizes["b"]
        assert used.bytes_of(["two"]) == sizes["a"]
    assert walked == ["one", "two"]


def test_a_snapshot_that_is_gone_is_forgotten(tmp_path: Path, walked: list[str]) -> None:
    snapshot(tmp_path, "one", a=b"x")
    snapshot(tmp_path, "two", a=b"x")
    used = Usage(os.fsencode(tmp_path))
    list(used.look(["one", "two"]))
    list(used.look(["two"]))
    list(used.look(["one", "two"]))
    assert walked == ["one", "two", "one"]


def test_a_large_snapshot_is_walked_in_steps(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", **{f"f{number}": b"" for number in range(2 * usage.STEP)})
    assert sum(1 for _ in Usage(os.fsencode(tmp_path)).look(["one"])) == 3


@pytest.mark.parametrize(("blocks", "limit"), [(1000, 700 * 4096), (10**9, 2**31), (0, 2**31)])
def test_a_small_volume_limits_what_snapshots_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, limit: int
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Volume(blocks, 4096))
    assert Usage(os.fsencode(tmp_path)).limit(2**31) == limit
