from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock.sync.rules import Rules
from windsock.sync.scan import Entry, Scan, Tree, difference, scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


RULES = Rules()
ENTRIES = st.builds(
    Entry, st.just("file"), st.just(0o644), st.integers(0, 3), st.sampled_from(["a" * 40, "b" * 40])
)
TREES = st.dictionaries(st.sampled_from("abcdef"), ENTRIES).map(Tree)


def later() -> int:
    """A wall clock by which every file has long been left alone."""
    return time.time_ns() + 10**10


def reasons(found: Scan) -> dict[str, str]:
    return {problem.path: problem.reason for problem in found.problems}


@given(old=TREES, new=TREES)
def test_applying_a_difference_makes_the_new_tree(old: Tree, new: Tree) -> None:
    changes = difference(old, new)
    entries = dict(old.entries)
    for path in changes.deleted:
        del entries[path]
    for path in changes.added:
        assert path not in entries
        entries[path] = new.entries[path]
    for path in changes.modified:
        assert entries[path] != new.entries[path]
        entries[path] = new.entries[path]
    assert Tree(entries) == new
    assert Tree(entries).id == new.id
    assert bool(changes) == (old != new)


def test_a_scan_finds_files_links_and_modes_but_no_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "sub/empty").mkdir(parents=True)
    (tmp_path / "sub/run.sh").write_text("hi")
    (tmp_path / "sub/run.sh").chmod(0o750)
    (tmp_path / "link").symlink_to("sub/run.sh")
    found = scan(tmp_path, RULES)
    assert set(found.tree.entries) == {"sub/run.sh", "link"}
    assert found.tree.entries["sub/run.sh"].mode == 0o750
    assert found.tree.entries["sub/run.sh"].size == 2
    assert found.tree.entries["link"] == Entry("link", 0, 0, "sub/run.sh")
    assert found.problems == ()


def test_the_id_depends_on_content_and_mode_and_name_but_not_on_times(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("one")
    first = scan(tmp_path, RULES).tree.id
    os.utime(file, (1, 1))
    assert scan(tmp_path, RULES).tree.id == first
    file.chmod(0o600)
    other_mode = scan(tmp_path, RULES).tree.id
    file.chmod(0o644)
    file.write_text("two")
    other_content = scan(tmp_path, RULES).tree.id
    file.write_text("one")
    file.rename(tmp_path / "b.py")
    other_name = scan(tmp_path, RULES).tree.id
    assert len({first, other_mode, other_content, other_name}) == 4
    assert all(len(each) == 32 for each in (first, other_mode))


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    first = scan(tmp_path, RULES, now=later)
    again = scan(tmp_path, RULES, first, now=later)
    assert again.index["a.py"] is first.index["a.py"]
    assert again.tree is first.tree


def test_a_change_in_the_same_tick_and_of_the_same_size_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("one")
    status = file.stat()
    # The clock of the file system stands still: the second change leaves the very same times.
    first = scan(tmp_path, RULES, now=lambda: status.st_ctime_ns)
    known = first.index["a.py"]
    assert not known.settled
    file.write_text("two")
    changed = file.stat()
    same = (*known.signature[:3], changed.st_mtime_ns, changed.st_ctime_ns)
    lying = Scan(tree=first.tree, index={"a.py": type(known)(same, known.entry, known.settled)})
    assert scan(tmp_path, RULES, lying).tree.id != first.tree.id


def test_after_a_clock_jumped_back_files_of_the_future_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    hour_ago = time.time_ns() - 3600 * 10**9
    found = scan(tmp_path, RULES, now=lambda: hour_ago)
    assert not found.index["a.py"].settled


def test_a_preserved_old_mtime_does_not_hide_a_change(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("one")
    os.utime(file, (1_000_000, 1_000_000))
    first = scan(tmp_path, RULES, now=later)
    file.write_text("two")
    os.utime(file, (1_000_000, 1_000_000))
    assert scan(tmp_path, RULES, first, now=later).tree.id != first.tree.id


def test_links_that_lead_outside_or_nowhere_sensible_are_not_synced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "sub/up").symlink_to("..")
    (root / "through").symlink_to("sub/hop/secret")
    (root / "sub/hop").symlink_to("../..")
    found = scan(root, RULES)
    assert found.tree.entries == {}
    assert set(reasons(found)) == {"out", "absolute", "a", "b", "sub/up", "sub/hop", "through"}
    assert "itself" in reasons(found)["a"]
    assert "above" in reasons(found)["sub/up"]
    assert "outside" in reasons(found)["through"]


def test_links_inside_are_synced_and_absolute_ones_become_relative(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.py").write_text("x")
    (root / "sub/absolute").symlink_to(root / "a.py")
    (root / "folder").symlink_to("sub")
    (root / "dangling").symlink_to("sub/missing")
    entries = scan(root, RULES).tree.entries
    assert entries["sub/absolute"].value == "../a.py"
    assert entries["folder"].value == "sub"
    assert entries["dangling"].value == "sub/missing"


def test_a_root_that_is_itself_a_link_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.py").write_text("x")
    (tmp_path / "real/l").symlink_to(tmp_path / "root/a.py")
    (tmp_path / "root").symlink_to("real")
    found = scan(tmp_path / "root", RULES)
    assert found.tree.entries["l"].value == "a.py"


def test_special_files_are_problems(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = scan(tmp_path, RULES)
    assert set(reasons(found)) == {"fifo", "socket"}
    assert found.tree.entries == {}


def test_odd_names_travel_and_names_that_are_not_utf8_are_problems(tmp_path: Path) -> None:
    names = ["new\nline.py", "😀.py", "é.py", "e\u0301.py", "É.py", " ", "a\\b", '"']
    for name in names:
        (tmp_path / name).write_text(name)
    with open(os.fsencode(tmp_path) + b"/\xff.py", "wb"):  # noqa: PTH123 - the name is no text
        pass
    found = scan(tmp_path, RULES)
    assert set(found.tree.entries) == set(names)
    assert reasons(found) == {"\\xff.py": "its name is not UTF-8"}


def test_an_unreadable_file_is_a_problem_and_the_rest_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.py").write_text("x")
    (tmp_path / "bad.py").write_text("x")
    really_open = os.open

    def refuse(path: bytes, flags: int) -> int:
        if path.endswith(b"bad.py"):
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", refuse)  # root reads whatever the mode says
    found = scan(tmp_path, RULES)
    assert set(found.tree.entries) == {"good.py"}
    assert reasons(found) == {"bad.py": "it cannot be read: Permission denied"}


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_a_folder_that_cannot_be_read_is_not_known_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "sub/deep").mkdir(parents=True)
    (tmp_path / "sub/deep/a.py").write_text("x")
    (tmp_path / "b.py").write_text("x")
    really = os.scandir

    def fail(path: bytes) -> Any:
        if path.endswith(b"/sub"):
            raise OSError(number, os.strerror(number))
        return really(path)

    monkeypatch.setattr(os, "scandir", fail)
    found = scan(tmp_path, RULES)
    assert set(found.tree.entries) == {"b.py"}
    assert found.unread == {"sub"}
    assert reasons(found) == {"sub": f"it cannot be read: {os.strerror(number)}"}
    monkeypatch.setattr(os, "scandir", really)
    again = scan(tmp_path, RULES, found, only={"b.py"})
    assert set(again.tree.entries) == {"b.py", "sub/deep/a.py"}
    assert not again.unread


def test_a_root_that_was_listed_in_part_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("x")
    really, calls = os.scandir, iter([False, True])

    @contextlib.contextmanager
    def fail(path: Any) -> Iterator[Any]:
        with really(path) as items:
            if next(calls, False):  # The first call only sees whether there is a folder.
                raise OSError(errno.EIO, "Input/output error")
            yield items

    monkeypatch.setattr(os, "scandir", fail)
    found = scan(tmp_path, RULES)
    assert found.unread == {""}
    assert list(reasons(found)) == ["."]
    again = scan(tmp_path, RULES, found, only=())
    assert set(again.tree.entries) == {"a.py"}
    assert not again.unread


def test_a_link_that_leads_outside_says_where_and_what_to_do(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
    (other / "a.py").write_text("x")
    (root / "out").symlink_to(other / "a.py")
    reason = reasons(scan(root, RULES))["out"]
    assert str(other / "a.py") in reason
    assert "sync.folders" in reason
    found = scan(root, RULES, elsewhere=lambda path, place: f"{path}:{place.decode()[-4:]}")
    assert found.tree.entries["out"].value == "out:a.py"


def test_a_missing_root_is_not_an_empty_one(tmp_path: Path) -> None:
    assert scan(tmp_path, RULES).missing == ""
    assert "No such file" in scan(tmp_path / "gone", RULES).missing
    (tmp_path / "file").write_text("")
    assert "Not a directory" in scan(tmp_path / "file", RULES).missing


def test_a_file_that_changes_while_it_is_read_keeps_its_old_entry(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("one")
    (tmp_path / "b.py").write_text("x")
    before = scan(tmp_path, RULES)
    file.write_text("other")

    def now() -> int:  # It is asked while a file is read.
        with file.open("a") as appended:
            appended.write("more")
        return time.time_ns()

    found = scan(tmp_path, RULES, before, now=now)
    assert found.unsettled == {"a.log"}
    assert found.tree.entries["a.log"] == before.tree.entries["a.log"]
    assert "b.py" in found.tree.entries
    assert scan(tmp_path, RULES, found).unsettled == frozenset()


def test_ignored_folders_are_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / ".git/objects").mkdir(parents=True)
    (tmp_path / ".git/objects/x").write_text("x")
    os.mkfifo(tmp_path / ".git/fifo")
    found = scan(tmp_path, RULES)
    assert found.tree.entries == {}
    assert found.problems == ()


def test_small_content_is_handed_on_and_large_content_is_not(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(bytes(300_000))
    assert list(scan(tmp_path, RULES).contents.values()) == [b"small"]


NAMES = st.sampled_from(["a.py", "b.py", "d/a.py", "d/e/f.py", "d/e", "new/x.py", "é"])
TOUCHES = st.lists(
    st.tuples(st.sampled_from(["write", "delete", "mode", "fifo", "link", "folder"]), NAMES),
    max_size=6,
)


def touch(path: Path, action: str) -> None:
    if action == "folder" or path.is_dir():
        if not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir(parents=True, exist_ok=True)
        return
    if action in ("write", "fifo", "link"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    if action == "write":
        path.write_text(str(time.monotonic_ns()))
    elif action == "fifo":
        os.mkfifo(path)
    elif action == "link":
        path.symlink_to("../../a.py")
    elif action == "delete":
        path.unlink(missing_ok=True)
    elif path.is_file():
        path.chmod(0o600)


@settings(deadline=None)
@given(before=TOUCHES, after=TOUCHES)
def test_looking_again_at_what_changed_is_as_good_as_looking_at_everything(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str]],
    after: list[tuple[str, str]],
) -> None:
    root = tmp_path_factory.mktemp("root")
    for action, name in before:
        with contextlib.suppress(NotADirectoryError, FileExistsError, FileNotFoundError):
            touch(root / name, action)
    first = scan(root, RULES)
    for action, name in after:
        with contextlib.suppress(NotADirectoryError, FileExistsError, FileNotFoundError):
            touch(root / name, action)
    again = scan(root, RULES, first, only={name for _, name in after})
    everything = scan(root, RULES)
    assert again.tree == everything.tree
    assert again.tree.id == everything.tree.id
    assert again.problems == everything.problems


def test_only_the_given_files_are_looked_at(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("one")
    first = scan(tmp_path, RULES)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("other")
    again = scan(tmp_path, RULES, first, only=["a.py"])
    assert again.tree.entries["a.py"] != first.tree.entries["a.py"]
    assert again.tree.entries["b.py"] == first.tree.entries["b.py"]


def test_a_folder_that_became_a_link_is_not_looked_through(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d/a.py").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.py").write_text("outside")
    first = scan(root, RULES)
    (root / "d/a.py").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to(tmp_path / "outside")
    assert scan(root, RULES, first, only=["d/a.py"]).tree.entries == {}
