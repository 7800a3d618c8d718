from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from windsock.store.usage import SHARE, STEP, Usage

if TYPE_CHECKING:
    from pathlib import Path


def snapshot(folder: Path, name: str, **files: bytes) -> None:
    (folder / name).mkdir()
    for file, content in files.items():
        (folder / name / file).write_bytes(content)


def test_hard_links_count_once_and_each_snapshot_is_walked_once(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", a=bytes(100_000), b=bytes(50_000))
    snapshot(tmp_path, "two")
    (tmp_path / "two" / "a").hardlink_to(tmp_path / "one" / "a")
    sizes = {name: (tmp_path / "one" / name).stat().st_blocks * 512 for name in "ab"}
    used = Usage(os.fsencode(tmp_path))
    for _ in range(3):
        list(used.look(["one", "two"]))
        assert used.bytes_of(["one", "two"]) == sizes["a"] + sizes["b"]
        assert used.bytes_of(["two"]) == sizes["a"]
        shutil.rmtree(tmp_path / "one", ignore_errors=True)  # Another walk would find nothing.


def test_a_snapshot_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", a=b"x")
    snapshot(tmp_path, "two", a=b"x")
    used = Usage(os.fsencode(tmp_path))
    list(used.look(["one", "two"]))
    list(used.look(["two"]))
    assert used.bytes_of(["one"]) == 0


def test_a_large_snapshot_is_walked_in_steps(tmp_path: Path) -> None:
    snapshot(tmp_path, "one", **{f"f{number}": b"" for number in range(2 * STEP)})
    assert sum(1 for _ in Usage(os.fsencode(tmp_path)).look(["one"])) == 3


def test_a_small_volume_limits_what_snapshots_may_take(tmp_path: Path) -> None:
    volume = os.statvfs(tmp_path)
    share = int(volume.f_blocks * volume.f_frsize * SHARE)
    assert Usage(os.fsencode(tmp_path)).limit(2 * share) == share
    assert Usage(os.fsencode(tmp_path)).limit(share // 2) == share // 2
    assert Usage(b"/proc").limit(1000) == 1000, "it has no size"
