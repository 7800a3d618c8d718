from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.store.wire import LENGTHS, MAXIMUM_PAYLOAD, Decoder, Frame, WireError, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FRAMES = st.builds(
    Frame,
    st.dictionaries(st.text(), VALUES, max_size=3).map(lambda values: {**values, "type": "x"}),
    st.binary(max_size=200),
)


@given(frames=st.lists(FRAMES, max_size=5), data=st.data())
def test_frames_survive_any_split_of_the_stream(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame.header, frame.payload) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = Decoder()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += list(decoder.feed(stream[start:end]))
    assert received == frames
    assert decoder.pending == 0


@given(frame=FRAMES, data=st.data())
def test_a_truncated_stream_gives_no_frame_and_is_known_to_be_truncated(
    frame: Frame, data: st.DataObject
) -> None:
    stream = encode(frame.header, frame.payload)
    end = data.draw(st.integers(1, len(stream) - 1))
    decoder = Decoder()
    assert list(decoder.feed(stream[:end])) == []
    assert decoder.pending == end


@given(garbage=st.binary(max_size=400))
def test_garbage_is_an_error_or_waits_but_never_a_frame_without_type(garbage: bytes) -> None:
    frames = []
    with contextlib.suppress(WireError):
        frames += list(Decoder().feed(garbage))
    assert all(isinstance(frame.type, str) for frame in frames)


def test_the_error_quotes_text_from_a_shell() -> None:
    with pytest.raises(WireError, match="command not found"):
        list(Decoder().feed(b"sh: python3: command not found\n"))


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"type": 1}', b"no json", b"[" * 10_000])
def test_a_header_must_be_an_object_with_a_type(header: bytes) -> None:
    with pytest.raises(WireError, match="expected a header"):
        list(Decoder().feed(LENGTHS.pack(len(header), 0) + header))


def test_frames_that_came_whole_before_garbage_are_delivered() -> None:
    frames = Decoder().feed(encode({"type": "a"}) + b"\xff" * 20)
    assert next(frames).type == "a"
    with pytest.raises(WireError):
        next(frames)


def test_too_large_a_frame_is_not_sent() -> None:
    with pytest.raises(WireError, match="too large"):
        encode({"type": "content"}, bytes(MAXIMUM_PAYLOAD + 1))
