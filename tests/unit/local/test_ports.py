from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.ports import LOOPBACK, choose, is_free, listener, remember

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _listening(port: int = 0, address: str = LOOPBACK) -> socket.socket:
    server = socket.create_server((address, port))
    server.listen()
    return server


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that this very process listens on, with a free one after it."""
    while True:
        with closing(_listening()) as server:
            port = int(server.getsockname()[1])
            if port < 65000 and is_free(port + 1):
                yield port
                return


@pytest.fixture
def free() -> int:
    with closing(_listening()) as server:
        return int(server.getsockname()[1])


def test_a_free_port_is_taken_without_a_reason(tmp_path: Path, free: int) -> None:
    choice = choose({"api": free}, memory=tmp_path / "ports")["api"]
    assert (choice.port, choice.wanted, choice.reason) == (free, free, "")


def test_a_busy_port_gives_the_next_free_one_and_says_who_has_it(tmp_path: Path, busy: int) -> None:
    choice = choose({"api": busy}, memory=tmp_path / "ports")["api"]
    assert choice.port > busy
    assert choice.reason.startswith(f"{busy} is busy (pid {os.getpid()}, ")


def test_a_server_on_all_interfaces_makes_the_port_busy() -> None:
    with closing(_listening(address="0.0.0.0")) as server:  # noqa: S104 - that is the point
        assert not is_free(server.getsockname()[1])


def test_the_choice_is_remembered_even_when_the_wanted_port_is_free_again(tmp_path: Path) -> None:
    memory = tmp_path / "ports"
    with closing(_listening()) as server:
        wanted = server.getsockname()[1]
        first = choose({"api": wanted}, memory=memory)
    assert not memory.exists()
    remember(first, memory=memory)
    assert is_free(wanted)
    assert choose({"api": wanted}, memory=memory) == first


def test_another_wish_is_not_overruled_by_memory(tmp_path: Path, free: int) -> None:
    memory = tmp_path / "ports"
    memory.write_text(json.dumps({"api": {"wanted": 1, "port": 2, "reason": ""}}))
    assert choose({"api": free}, memory=memory)["api"].port == free


def test_a_remembered_port_that_is_busy_now_is_left(tmp_path: Path, busy: int, free: int) -> None:
    memory = tmp_path / "ports"
    memory.write_text(json.dumps({"api": {"wanted": free, "port": busy, "reason": "because"}}))
    choice = choose({"api": free}, memory=memory)["api"]
    assert (choice.port, choice.reason) == (free, "")


def test_our_own_server_does_not_make_a_port_busy(tmp_path: Path, busy: int) -> None:
    choice = choose({"api": busy}, memory=tmp_path / "ports", ours=lambda pid: pid == os.getpid())
    assert choice["api"].port == busy


def test_two_components_that_want_the_same_port_get_two(tmp_path: Path, free: int) -> None:
    chosen = choose({"api": free, "postgres": free}, memory=tmp_path / "ports")
    assert chosen["api"].port == free
    assert chosen["postgres"].port > free
    assert "another component's" in chosen["postgres"].reason


@pytest.mark.parametrize("text", ["", "[]", '{"api": 3}', '{"api": {"port": "x"}}', "\0"])
def test_a_damaged_memory_means_choosing_anew(tmp_path: Path, free: int, text: str) -> None:
    (tmp_path / "ports").write_text(text)
    assert choose({"api": free}, memory=tmp_path / "ports")["api"].port == free


def test_no_free_port_near_the_wanted_one_is_an_error(tmp_path: Path) -> None:
    with (
        closing(socket.create_server((LOOPBACK, 65535))),  # There is none after it.
        pytest.raises(EnvironmentFailure, match="no port is free for api: 65535 is busy"),
    ):
        choose({"api": 65535}, memory=tmp_path / "ports")


def test_a_port_of_root_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidding(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidding)
    with pytest.raises(ConfigurationError, match="reserved for root"):
        is_free(80)


def test_nobody_listens_on_a_free_port(free: int) -> None:
    assert listener(free) is None
