"""The wire: frames of a JSON header and bytes, over any byte stream."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTOCOL = 1
MARKER = b"\x00windsock-agent\x00\n"
"""The first bytes the agent writes; a shell or a login banner may write before it."""
MAXIMUM_HEADER = 32 * 1024 * 1024
MAXIMUM_PAYLOAD = 256 * 1024
LENGTHS = struct.Struct(">II")
_JSON = json.JSONEncoder(separators=(",", ":"))


class WireError(Exception):
    """The stream carries something else than our protocol."""


class Frame(NamedTuple):
    """One message: a JSON object with a `type`, and bytes."""

    header: dict[str, Any]
    payload: bytes

    @property
    def type(self) -> str:
        """The kind of message."""
        return str(self.header["type"])


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """One frame as bytes: two lengths (big-endian, 32 bits), the header, the payload.

    Raises:
        WireError: The frame is larger than the other side accepts.
    """
    return head(header, len(payload)) + payload


def head(header: Mapping[str, Any], size: int) -> bytes:
    """The bytes before a payload of this size; raises as `encode` does."""
    text = _JSON.encode(header).encode("ascii")
    if len(text) > MAXIMUM_HEADER or size > MAXIMUM_PAYLOAD:
        raise WireError(f"a frame of {len(text)} + {size} bytes is too large to send")
    return LENGTHS.pack(len(text), size) + text


class Decoder:
    """Cuts a byte stream, in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes of an unfinished frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order.

        Raises:
            WireError: Lengths out of bounds, or a header that is no JSON object with a `type`.
        """
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= LENGTHS.size:
                header_size, payload_size = LENGTHS.unpack_from(self._buffer, start)
                if header_size > MAXIMUM_HEADER or payload_size > MAXIMUM_PAYLOAD:
                    seen = bytes(self._buffer[start : start + 40])
                    raise WireError(f"expected a frame, found {seen!r}")
                middle = start + LENGTHS.size + header_size
                if len(self._buffer) < middle + payload_size:
                    return
                header = self._header(bytes(self._buffer[start + LENGTHS.size : middle]))
                payload = bytes(self._buffer[middle : middle + payload_size])
                start = middle + payload_size
                yield Frame(header, payload)
        finally:
            del self._buffer[:start]

    @staticmethod
    def _header(text: bytes) -> dict[str, Any]:
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            raise WireError(f"expected a header, found {text[:40]!r}") from None
        if not isinstance(header, dict) or not isinstance(header.get("type"), str):
            raise WireError(f"expected a header, found {text[:40]!r}")
        return header
