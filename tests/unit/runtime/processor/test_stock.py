from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.processor.test_channel import Client
from windsock.airflow.settings import shared
from windsock.config import load
from windsock.runtime.processor.stock import BUNDLES, CLOCK, Listener, clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOCK = {"type": "stock", "missing": ["fetch_callbacks"]}


class Rig:
    """A listener whose thread a test turns by hand, and a client."""

    def __init__(self, path: Path) -> None:
        self.needed: list[str] = []
        self.error: Exception | None = None
        self.listener = Listener(path, missing=["fetch_callbacks"], references=self._references)
        self.client = Client(path)
        self.path = path

    def _references(self) -> list[str]:
        if self.error is not None:
            raise self.error
        return self.needed

    def answers(self, *requests: Any) -> list[Any]:
        self.client.send(*requests)
        self.listener.turn(0)
        self.listener.turn(0)
        return self.client.received()

    def close(self) -> None:
        self.client.socket.close()
        self.listener.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with contextlib.closing(Rig(tmp_path / "processor.sock")) as made:
        yield made


def test_who_waits_for_the_socket_finds_it_and_is_told_what_runs(rig: Rig) -> None:
    assert rig.path.is_socket()
    assert rig.answers() == [STOCK]
    assert rig.answers({"type": "poke", "snapshot": "0" * 32}) == []
    assert rig.answers({"type": "state"}) == [STOCK]


def test_snapshots_are_collected_beside_a_stock_dag_processor_too(rig: Rig) -> None:
    rig.answers()
    rig.needed = ["b", "a"]
    assert rig.answers({"type": "references"}) == [{"type": "references", "snapshots": ["a", "b"]}]
    rig.error = RuntimeError("no database")
    [refused] = rig.answers({"type": "references"})
    assert refused["type"] == "refused"
    rig.error = None
    assert rig.answers({"type": "references"})[0]["type"] == "references"


def test_a_client_that_leaves_ends_nothing(rig: Rig) -> None:
    rig.answers()
    other = Client(rig.path)
    rig.listener.turn(0)
    other.socket.close()
    rig.listener.turn(0)
    assert rig.answers({"type": "state"}) == [STOCK]


def test_the_clock_lets_a_save_be_found_within_seconds(tmp_path: Path) -> None:
    values = shared(load({}, project=tmp_path), store="/store")
    told = {BUNDLES: values["dag_processor.dag_bundle_config_list"]}
    quick = clock(told)
    assert CLOCK.items() <= quick.items()
    [bundle] = json.loads(quick[BUNDLES])
    assert bundle["kwargs"] == {"store": "/store", "refresh_interval": 1}
    assert clock({}) == CLOCK
