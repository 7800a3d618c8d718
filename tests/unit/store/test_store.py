from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from windsock.store.entries import Refusal, Row, canonical, content_digest, identify
from windsock.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.store.batch import Batch


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
        return self.store.begin(number=self.number, **{**values, **changes})

    def send(self, tree: dict[str, bytes | Row]) -> str:
        batch = self.begin(tree)
        for data in tree.values():
            if isinstance(data, bytes) and digest_of(data) in batch.needed:
                batch.receive(digest=digest_of(data), data=data, last=True)
        self.store.commit(batch)
        self.store.drop(batch)
        return batch.target


@pytest.fixture
def client(tmp_path: Path) -> Client:
    store = Store(str(tmp_path / "store"))
    store.open()
    return Client(store)


def opened_again(client: Client) -> Client:
    """Another agent with the same store."""
    store = Store(os.fsdecode(client.store.path()))
    store.open()
    return Client(store)


def read(client: Client, path: str) -> str:
    with open(client.store.path("current", path)) as file:
        return file.read()


def write(client: Client, *place: str, text: str = "") -> None:
    with open(client.store.path(*place), "w") as file:
        file.write(text)


def damage(client: Client) -> None:
    """Change the content of `a.py`, but not its size."""
    with open(client.store.path("current", "a.py"), "r+b") as file:
        file.write(b"\0\0\0")


def incoming(client: Client) -> list[bytes]:
    return os.listdir(client.store.path("incoming"))


def collect(client: Client) -> None:
    """Collect all that may be."""
    list(client.store.collect(referenced=set(), keep=0, minimum_age=-1, maximum_bytes=0))


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
    assert incoming(client) == []


def test_content_must_be_asked_for_and_be_what_it_says(client: Client) -> None:
    batch = client.begin({"a.py": b"one"})
    with pytest.raises(Refusal, match="nobody asked"):
        batch.receive(digest=digest_of(b"other"), data=b"other", last=True)
    with pytest.raises(Refusal, match="not all content"):
        client.store.commit(batch)
    batch.receive(digest=digest_of(b"one"), data=b"o", last=False)
    with pytest.raises(Refusal, match="before the end"):
        batch.receive(digest=digest_of(b"two"), data=b"", last=False)
    with pytest.raises(Refusal, match="is not"):
        batch.receive(digest=digest_of(b"one"), data=b"NE", last=True)
    client.store.drop(batch)


def test_a_link_that_leads_outside_through_another_one_is_refused(client: Client) -> None:
    tree: dict[str, bytes | Row] = {
        "a/b/up": ("link", 0, 0, "../.."),
        "a/b/out": ("link", 0, 0, "up/../x"),
    }
    batch = client.begin(tree)
    with pytest.raises(Refusal, match="leads outside"):
        client.store.commit(batch)
    assert client.store.tree is None


def test_a_store_that_was_taken_over_does_not_switch(client: Client) -> None:
    client.send({"a.py": b"one"})
    ours = [True]
    client.store.open(is_ours=lambda: ours[0])
    batch = client.begin({"a.py": b"two"})
    batch.receive(digest=digest_of(b"two"), data=b"two", last=True)
    ours[0] = False
    with pytest.raises(Refusal, match="taken"):
        client.store.commit(batch)
    assert read(client, "a.py") == "one"


def test_an_agent_that_lost_the_lock_does_not_touch_the_snapshot_of_its_successor(
    client: Client,
) -> None:
    ours = [True]
    client.store.open(is_ours=lambda: ours[0])
    successor = opened_again(client)
    batch = client.begin({"a.py": b"two"})
    batch.receive(digest=digest_of(b"two"), data=b"two", last=True)
    tree = successor.send({"a.py": b"two"})
    ours[0] = False
    before = os.stat(client.store.path("snapshots", tree)).st_ino
    with pytest.raises(Refusal, match="taken"):
        client.store.commit(batch)
    assert os.stat(client.store.path("snapshots", tree)).st_ino == before
    assert successor.store.verify(tree, successor.store.entries, thorough=True)


@pytest.mark.parametrize("older", [True, False])
def test_an_agent_that_lost_the_lock_while_it_opens_does_not_move_current(
    client: Client, *, older: bool
) -> None:
    if older:
        client.send({"a.py": b"older"})
    tree = client.send({"a.py": b"one"})
    os.unlink(client.store.path("snapshots", tree, "a.py"))
    answers = iter([True])
    late = Store(os.fsdecode(client.store.path()))
    with pytest.raises(Refusal, match="taken"):
        late.open(is_ours=lambda: next(answers, False))
    assert os.readlink(client.store.path("current")).endswith(tree.encode())


def test_an_agent_that_lost_the_lock_collects_nothing(client: Client) -> None:
    old = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    ours = [True]
    client.store.open(is_ours=lambda: ours[0])
    ours[0] = False
    with pytest.raises(Refusal, match="taken"):
        collect(client)
    assert client.store.manifest(old) is not None


def test_a_snapshot_comes_back_if_the_lock_is_lost_while_it_is_removed(client: Client) -> None:
    old = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    answers: list[bool] = []
    client.store.open(is_ours=lambda: answers.pop(0) if answers else True)
    answers += [True, False, False]
    with pytest.raises(Refusal, match="taken"):
        collect(client)
    entries = client.store.manifest(old)
    assert entries is not None
    assert client.store.verify(old, entries, thorough=True)


def test_an_agent_that_still_builds_finds_nothing_after_another_one_has_swept(
    client: Client,
) -> None:
    batch = client.begin({"a.py": b"two"})
    opened_again(client)
    with pytest.raises(FileNotFoundError):
        batch.receive(digest=digest_of(b"two"), data=b"two", last=True)


def test_a_snapshot_made_current_again_is_not_collected_with_the_old(client: Client) -> None:
    old = client.send({"a.py": b"one"})
    others = [client.send({"a.py": b"%d" % number}) for number in range(3)]
    for tree in (old, *others):
        os.utime(client.store.path("manifests", tree + ".json"), (1000, 1000))
    collection = client.store.collect(referenced=set(), keep=0, minimum_age=60, maximum_bytes=2**40)
    next(collection)
    [again] = [tree for tree in (old, *others[:2]) if client.store.manifest(tree)][:1]
    os.utime(client.store.path("manifests", again + ".json"))  # as going back to it does
    list(collection)
    assert {tree for _, tree in client.store.snapshots()} == {again, others[2]}


# --- interrupted batches ---


def test_what_has_arrived_of_an_interrupted_batch_need_not_come_again(client: Client) -> None:
    tree: dict[str, bytes | Row] = {"a.py": b"one", "b.py": b"two", "c.py": b"three"}
    batch = client.begin(tree)
    batch.receive(digest=digest_of(b"one"), data=b"one", last=True)
    batch.receive(digest=digest_of(b"two"), data=b"t", last=False)
    client.store.put_aside(batch)
    again = opened_again(client)
    assert again.begin(tree).needed == {digest_of(b"two"), digest_of(b"three")}


def test_it_survives_any_number_of_starts_and_goes_when_it_has_served(client: Client) -> None:
    batch = client.begin({"a.py": b"one", "b.py": b"two"})
    batch.receive(digest=digest_of(b"one"), data=b"one", last=True)
    opened_again(client)  # as after kill -9
    again = opened_again(client)
    again.send({"a.py": b"one", "c.py": b"three"})
    assert read(again, "a.py") == "one"
    assert incoming(client) == []


def test_content_that_was_damaged_meanwhile_is_asked_for_again(client: Client) -> None:
    batch = client.begin({"a.py": b"one"})
    batch.receive(digest=digest_of(b"one"), data=b"one", last=True)
    with open(batch.blob(digest_of(b"one")), "r+b") as file:
        file.write(b"\0\0\0")
    again = opened_again(client)
    again.send({"a.py": b"one"})
    assert read(again, "a.py") == "one"


@pytest.mark.parametrize("why", ["nothing has arrived", "the disk is full"])
def test_an_interrupted_batch_is_swept(client: Client, why: str) -> None:
    batch = client.begin({"a.py": b"one", "b.py": b"two"})
    if why != "nothing has arrived":
        batch.receive(digest=digest_of(b"one"), data=b"one", last=True)
    again = opened_again(client)
    if why == "the disk is full":
        again.store.make_room()
    assert incoming(client) == []


# --- damage ---


def test_folders_files_and_links_swap_places(client: Client) -> None:
    trees: list[dict[str, bytes | Row]] = [
        {"x": b"1", "d/y": b"2", "d/e/z": b"3"},
        {"x/inside": b"1", "d": b"2"},
        {"x": ("link", 0, 0, "d"), "d/y": b"3", "copy": b"3", "again": b"3"},
        {"x": file_row(b"3", 0o755), "d/y": b"3"},
        {},
        {"x": b"1"},
    ]
    for tree in trees:
        made = client.send(tree)
        assert client.store.verify(made, client.store.entries, thorough=True)


def test_after_a_crash_of_the_machine_damaged_content_is_found(client: Client) -> None:
    first = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    damage(client)
    assert opened_again(client).store.tree != first
    write(client, "boot", text="another boot")
    assert opened_again(client).store.tree == first
    assert read(client, "a.py") == "one"


def test_after_a_crash_of_the_machine_an_older_snapshot_is_read_before_it_is_used(
    client: Client,
) -> None:
    client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    damage(client)
    client.send({"a.py": b"three"})
    write(client, "boot", text="another boot")
    opened_again(client)
    again = opened_again(client)  # the second start in this boot: it reads nothing at its start
    again.send({"a.py": b"two"})
    assert read(again, "a.py") == "two"


def test_what_a_dag_wrote_next_to_its_file_does_not_bring_older_code_back(client: Client) -> None:
    client.send({"a.py": b"one"})
    tree = client.send({"a.py": b"two"})
    write(client, "current", "cache.txt")
    again = opened_again(client)
    assert again.store.tree == tree
    assert read(again, "a.py") == "two"
    assert again.send({"a.py": b"three"})
    assert not os.path.lexists(client.store.path("current", "cache.txt"))


@pytest.mark.parametrize("name", ["a.py", "other.py"])
def test_what_was_written_into_a_file_of_the_same_size_goes_into_no_later_snapshot(
    client: Client, name: str
) -> None:
    first = client.send({"a.py": b"1"})
    place = os.path.join(client.store.path("snapshots", first), b"a.py")
    with open(place, "r+b") as file:
        file.write(b"2")
    later = os.stat(place).st_mtime_ns + 1_000_000_000  # A coarse clock may show the same time.
    os.utime(place, ns=(later, later))
    with pytest.raises(Refusal, match="something that runs has written to") as refused:
        client.send({name: b"1", "b.py": b"1"})
    assert refused.value.code == "base_mismatch"  # The client sends all of it again.
    client.send({name: b"1", "b.py": b"1"})
    assert read(client, name) == "1"


def test_without_any_whole_snapshot_nothing_is_current(client: Client) -> None:
    tree = client.send({"a.py": b"one"})
    os.unlink(client.store.path("snapshots", tree, "a.py"))
    again = opened_again(client)
    assert again.store.tree is None
    assert not os.path.lexists(client.store.path("current"))
    assert again.send({"a.py": b"one"}) == tree
    assert read(client, "a.py") == "one"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": {"../x": ["file", 1, 1, "a"]}}'])
def test_a_damaged_manifest_is_no_manifest(client: Client, text: str) -> None:
    tree = client.send({"a.py": b"one"})
    write(client, "manifests", tree + ".json", text=text)
    assert client.store.manifest(tree) is None
    assert opened_again(client).store.tree is None


def test_a_damaged_snapshot_is_built_again_when_it_is_wanted_again(client: Client) -> None:
    first = client.send({"a.py": b"one"})
    client.send({"a.py": b"two"})
    write(client, "snapshots", first, "extra")
    assert client.send({"a.py": b"one"}) == first
    assert client.store.verify(first, client.store.entries, thorough=True)


def test_the_current_snapshot_and_what_is_no_snapshot_are_never_removed(client: Client) -> None:
    client.send({"a.py": b"one"})
    write(client, "manifests", "..json")  # Named as the folder above.
    collect(client)
    assert read(client, "a.py") == "one"
