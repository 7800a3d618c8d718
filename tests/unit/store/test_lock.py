from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from windsock.store.lock import StoreLock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_agent_gets_the_name_of_the_holder(tmp_path: Path) -> None:
    first, second = StoreLock(str(tmp_path / "lock")), StoreLock(str(tmp_path / "lock"))
    assert first.acquire("a", take_over=False) == {}
    holder = second.acquire("b", take_over=False)
    assert holder["client"] == "a"
    assert holder["pid"] > 0
    assert not second.is_ours()
    first.release()
    assert second.acquire("b", take_over=False) == {}
    second.release()


def test_a_holder_notices_that_it_was_taken_over(tmp_path: Path) -> None:
    first, second = StoreLock(str(tmp_path / "lock")), StoreLock(str(tmp_path / "lock"))
    first.acquire("a", take_over=False)
    taken = threading.Thread(target=second.acquire, args=("b",), kwargs={"take_over": True})
    taken.start()
    while first.is_ours():
        pass
    first.release()
    taken.join()
    assert second.is_ours()
    assert json.loads((tmp_path / "lock").read_text())["client"] == "b"
    second.release()


def test_the_same_client_takes_over_from_its_hung_former_agent(tmp_path: Path) -> None:
    first, second = StoreLock(str(tmp_path / "lock")), StoreLock(str(tmp_path / "lock"))
    first.acquire("a", take_over=False)
    assert second.acquire("a", take_over=False, patience=0.0) == {}
    assert second.is_ours()
    assert not first.is_ours()
    first.release()
    assert second.is_ours(), "the loser does not take the lock away from the winner"
    second.release()


def test_the_lock_file_of_an_agent_that_ended_is_free(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"pid": 1, "client": "dead"}')
    lock = StoreLock(str(tmp_path / "lock"))
    assert lock.acquire("b", take_over=False) == {}
    lock.release()
    assert (tmp_path / "lock").read_text() == ""


def test_a_lock_file_that_was_deleted_is_lost(tmp_path: Path) -> None:
    lock = StoreLock(str(tmp_path / "lock"))
    lock.acquire("a", take_over=False)
    (tmp_path / "lock").unlink()
    assert not lock.is_ours()
    lock.release()
