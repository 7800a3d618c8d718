from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from windsock.store.wire import MAXIMUM_HEADER, Decoder, Frame, encode
from windsock.sync.rules import Rules
from windsock.sync.scan import NOTHING, Entry, Tree, difference, scan, signature
from windsock.sync.upload import BatchRefused, Moved, Upload

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.sync.protocol import Link


class FakeLink:
    """Records what is sent, and answers like an agent that has nothing yet."""

    def __init__(self, *, refuse_at: str = "") -> None:
        self.frames: list[Frame] = []
        self._refuse_at = refuse_at
        self._decoder = Decoder()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self.send_raw(encode(header, payload))

    def send_raw(self, frames: bytes) -> None:
        self.frames += self._decoder.feed(frames)

    @property
    def answer_waits(self) -> bool:
        return any(frame.type == self._refuse_at for frame in self.frames)

    def receive(self, *types: str, timeout: float) -> Frame:
        del timeout
        last = self.frames[-1]
        header: dict[str, Any] = {"type": types[0], "batch": last.header["batch"]}
        if self.answer_waits:
            return Frame({**header, "type": "refused", "code": "no_space", "message": "full"}, b"")
        if types[0] == "need":
            rows = self.frames[0].header["entries"].values()
            header["digests"] = sorted({row[3] for row in rows if row[0] == "file"})
        return Frame(header, b"")


def upload_of(root: Path, *, contents: bool = False, settled: bool = False) -> Upload:
    found = scan(root, Rules())

    def known_signature(path: str, digest: str) -> tuple[int, ...]:
        known = found.index[path]
        assert known.entry.value == digest
        return known.signature if settled else ()

    return Upload(
        number=1,
        place=lambda path: os.fsencode(root / path),
        base=None,
        tree=found.tree,
        difference=difference(NOTHING.tree, found.tree),
        contents=found.contents if contents else {},
        settled=known_signature,
    )


def send(upload: Upload, link: FakeLink) -> int:
    return upload.send(cast("Link", link))


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("contents", [True, False])
def test_every_content_travels_once_in_pieces(
    tmp_path: Path, *, contents: bool, settled: bool
) -> None:
    large = os.urandom(600_000)
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "twin").write_bytes(large)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "small").write_bytes(b"small")
    link = FakeLink()
    assert send(upload_of(tmp_path, contents=contents, settled=settled), link) == 600_005
    pieces = [frame for frame in link.frames if frame.type == "content"]
    assert b"".join(sorted(f.payload for f in pieces if len(f.payload) < 100)) == b"small"
    assert sum(len(frame.payload) for frame in pieces) == 600_005
    assert sum(frame.header["last"] for frame in pieces) == 3
    assert [link.frames[0].type, link.frames[-1].type] == ["begin", "commit"]


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("change", ["content", "delete", "link", "fifo"])
def test_a_file_that_is_not_what_was_scanned_ends_the_batch(
    tmp_path: Path, change: str, *, settled: bool
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(300_000))
    upload = upload_of(tmp_path, settled=settled)
    file.unlink()
    if change == "content":
        file.write_bytes(b"\1" * 300_000)
    elif change == "link":
        file.symlink_to("/etc/passwd")
    elif change == "fifo":
        os.mkfifo(file)
    link = FakeLink()
    with pytest.raises(Moved, match="large"):
        send(upload, link)
    assert link.frames[-1].type == "abort"
    assert not any(frame.header.get("last") for frame in link.frames)


def test_a_file_that_changes_while_it_is_sent_ends_the_batch(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(600_000))
    os.utime(file, (1000, 1000))
    upload = upload_of(tmp_path, settled=True)

    class Writing(FakeLink):
        def send_raw(self, frames: bytes) -> None:
            super().send_raw(frames)
            if self.frames[-1].type == "content" and not self.frames[-1].header["last"]:
                file.write_bytes(b"\1" * 600_000)

    with pytest.raises(Moved, match="large"):
        send(upload, Writing())


def test_a_file_whose_signature_has_settled_is_not_read_to_be_compared(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    upload = upload_of(tmp_path, settled=True)
    with (tmp_path / "a.py").open("r+") as file:
        file.write("two")
    known = (tmp_path / "a.py").stat()
    told = replace(upload, settled=lambda *_: signature(known))
    link = FakeLink()
    send(told, link)
    assert [frame.payload for frame in link.frames if frame.type == "content"] == [b"two"]


def test_a_refusal_ends_the_sending_early(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(os.urandom(300_000))
    link = FakeLink(refuse_at="content")
    with pytest.raises(BatchRefused, match="full") as refused:
        send(upload_of(tmp_path), link)
    assert refused.value.code == "no_space"
    assert sum(frame.type == "content" for frame in link.frames) < 10


def test_a_batch_that_is_too_large_for_one_message_is_refused_before_it_is_sent(
    tmp_path: Path,
) -> None:
    entry = Entry("link", 0, 0, "x" * (MAXIMUM_HEADER // 2))
    tree = Tree({"a": entry, "b": entry})
    upload = replace(upload_of(tmp_path), tree=tree, difference=difference(NOTHING.tree, tree))
    link = FakeLink()
    with pytest.raises(BatchRefused, match="too many files at once") as refused:
        send(upload, link)
    assert link.frames == []
    assert refused.value.code == "too_large"
