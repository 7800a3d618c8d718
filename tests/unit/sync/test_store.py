from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from windsock.sync.entries import Refusal, Row, canonical, content_digest, identify
from windsock.sync.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.sync.batch import Batch


def digest_of(data: bytes) -> str:
    state = content_digest()
    state.update(data)
    return state.hexdigest()


def file_row(data: bytes, mode: int = 0o644) -> Row:
    return ("file", mode, len(data), digest_of(data))


class Client:
    """Sends trees to a store, by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.number = 0

    def begin(self, tree: dict[str, bytes | Row], **changes: object) -> Batch:
        rows = {p: row if isinstance(row, tuple) else file_row(row) for p, row in tree.items()}
        self.number += 1
        values: dict[str, object] = {
            "base": self.store.tree,
            "target": identify(canonical(rows)),
            "deleted": [path for path in self.store.entries if path not in rows],
            "entries": rows,
        }
        return self.store.begin(number=self.number, **{**values, **changes})  # type: ignore[arg-type]  # tests send nonsense

    def send(self, tree: dict[str, bytes | Row]) -> str:
        batch = self.begin(tree)
        for data in tree.values():
            if isinstance(data, bytes) and digest_of(data) in batch.needed:
                self.store.receive(batch, digest=digest_of(data), data=data, last=True)
        self.store.commit(batch, tick=lambda: None, held=lambda: True)
        self.store.drop(batch)
        return batch.target


@pytest.fixture
def client(tmp_path: Path) -> Client:
    store = Store(str(tmp_path / "store"))
    store.open()
    return Client(store)


def read(client: Client, path: str) -> str:
    with open(client.store.path("current", path)) as file:  # noqa: PTH123 - paths are bytes here
        return file.read()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"base": "0" * 32}, "base_mismatch"),
        ({"target": "0" * 32}, "bad_tree"),
        ({"target": None}, "bad_tree"),
        ({"entries": []}, "bad_tree"),
        ({"deleted": "a"}, "bad_tree"),
        ({"deleted": [1]}, "bad_path"),
        ({"entries": {"../a": file_row(b"")}}, "bad_path"),
        ({"entries": {"a": file_row(b""), "a/b": file_row(b"")}}, "bad_tree"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    client: Client, changes: dict[str, object], code: str
) -> None:
    client.send({"a.py": b"one"})
    with pytest.raises(Refusal) as refused:
        client.begin({"a.py": b"two"}, **changes)
    assert refused.value.code == code
    assert os.listdir(client.store.path("incoming")) == []  # noqa: PTH208 - paths are bytes here


def test_content_must_be_asked_for_and_be_what_it_says(client: Client) -> None:
    batch = client.begin({"a.py": b"one"})
    with pytest.raises(Refusal, match="nobody asked"):
        client.store.receive(batch, digest=digest_of(b"other"), data=b"other", last=True)
    with pytest.raises(Refusal, match="not all content"):
        client.store.commit(batch, tick=lambda: None, held=lambda: True)
    client.store.receive(batch, digest=digest_of(b"one"), data=b"o", last=False)
    with pytest.raises(Refusal, match="before the end"):
        client.store.receive(batch, digest=digest_of(b"two"), data=b"", last=False)
    with pytest.raises(Refusal, match="is not"):
        client.store.receive(batch, digest=digest_of(b"one"), data=b"NE", last=True)
    client.store.drop(batch)


def test_a_link_that_leads_outside_through_another_one_is_refused(client: Client) -> None:
    tree: dict[str, bytes | Row] = {
        "a/b/up": ("link", 0, 0, "../.."),
        "a/b/out": ("link", 0, 0, "up/../x"),
    }
    batch = client.begin(tree)
    with pytest.raises(Refusal, match="leads outside"):
        client.store.commit(batch, tick=lambda: None, held=lambda: True)
    assert client.store.tree is None


def test_a_store_that_was_taken_over_does_not_switch(client: Client) -> None:
    client.send({"a.py": b"one"})
    batch = client.begin({"a.py": b"two"})
    client.store.receive(batch, digest=digest_of(b"two"), data=b"two", last=True)
    with pytest.raises(Refusal, match="taken"):
        client.store.commit(batch, tick=lambda: None, held=lambda: False)
    assert read(client, "a.py") == "one"


@pytest.mark.parametrize("prepared", [True, False])
def test_folders_files_and_links_swap_places(client: Client, *, prepared: bool) -> None:
    trees: list[dict[str, bytes | Row]] = [
        {"x": b"1", "d/y": b"2", "d/e/z": b"3"},
        {"x/inside": b"1", "d": b"2"},
        {"x": ("link", 0, 0, "d"), "d/y": b"3", "copy": b"3", "again": b"3"},
        {"x": file_row(b"3", 0o755), "d/y": b"3"},
        {},
        {"x": b"1"},
    ]
    for tree in trees:
        if prepared:
            list(client.store.prepare())
        made = client.send(tree)
        assert client.store.verify(made, client.store.entries, thorough=True)


def test_a_spare_that_became_stale_is_not_used(client: Client) -> None:
    client.send({f"{n}.py": b"%d" % n for n in range(150)})
    spare = client.store.prepare()
    next(spare)
    tree = client.send({"a.py": b"one"})
    list(spare)
    assert client.store.verify(tree, client.store.entries, thorough=True)
    client.send({"a.py": b"two"})
    assert os.listdir(client.store.path("incoming")) == []  # noqa: PTH208 - paths are bytes here


def test_a_spare_is_not_used_after_going_back_to_an_older_snapshot(client: Client) -> None:
    client.send({"a.py": b"one", "same.py": b"x"})
    client.send({"a.py": b"two", "b.py": b"new", "same.py": b"x"})
    list(client.store.prepare())
    client.send({"a.py": b"one", "same.py": b"x"})
    tree = client.send({"c.py": b"three", "same.py": b"x"})
    assert client.store.verify(tree, client.store.entries, thorough=True)


def test_after_a_crash_of_the_machine_damaged_content_is_found(client: Client) -> None:
    first = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    with open(client.store.path("current", "a.py"), "r+b") as file:  # noqa: PTH123 - bytes
        file.write(b"\0\0\0")  # the size fits: only reading it tells
    again = Store(os.fsdecode(client.store.path()))
    again.open()
    assert again.tree is not None
    with open(client.store.path("boot"), "w") as file:  # noqa: PTH123 - bytes
        file.write("another boot")
    again.open()
    assert again.tree == first
    assert read(client, "a.py") == "one"


def test_without_any_whole_snapshot_nothing_is_current(client: Client) -> None:
    tree = client.send({"a.py": b"one"})
    os.unlink(client.store.path("snapshots", tree, "a.py"))  # noqa: PTH108 - bytes
    again = Store(os.fsdecode(client.store.path()))
    again.open()
    assert again.tree is None
    assert not os.path.lexists(client.store.path("current"))
    assert Client(again).send({"a.py": b"one"}) == tree
    assert read(client, "a.py") == "one"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": {"../x": ["file", 1, 1, "a"]}}'])
def test_a_damaged_manifest_is_no_manifest(client: Client, text: str) -> None:
    tree = client.send({"a.py": b"one"})
    with open(client.store.path("manifests", tree + ".json"), "w") as file:  # noqa: PTH123 - bytes
        file.write(text)
    assert client.store.manifest(tree) is None
    again = Store(os.fsdecode(client.store.path()))
    again.open()
    assert again.tree is None


def test_a_damaged_snapshot_is_built_again_when_it_is_wanted_again(client: Client) -> None:
    first = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    with open(client.store.path("snapshots", first, "extra"), "w"):  # noqa: PTH123 - bytes
        pass
    assert client.send({"a.py": b"one"}) == first
    assert client.store.verify(first, client.store.entries, thorough=True)


def test_the_current_snapshot_is_never_removed(client: Client) -> None:
    tree = client.send({"a.py": b"one"})
    client.store.remove(tree)
    client.store.remove("../manifests")
    assert read(client, "a.py") == "one"
