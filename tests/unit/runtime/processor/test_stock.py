from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from windsock.airflow.settings import shared
from windsock.config import load
from windsock.events import Event, References, StockProcessor, from_line
from windsock.json_lines import Client, encode
from windsock.runtime.processor.stock import BUNDLES, CLOCK, channel, clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[..., list[Event | None]]]:
    """Sends requests to a channel that serves, and returns the greeting and the answers."""
    path = tmp_path / "processor.sock"
    served = channel(path, missing=["fetch_callbacks"], references=lambda: ["b", "a"])
    served.start("stock")

    def ask(*requests: str, answers: int = 0) -> list[Event | None]:
        with Client(path, timeout=20) as client:
            for request in requests:
                client.send(encode({"type": request}))
            return [from_line(line) for line in islice(client.lines(), 1 + answers)]

    yield ask
    served.stop()


STOCK = StockProcessor(missing=("fetch_callbacks",))


def test_each_client_learns_what_runs(asked: Callable[..., list[Event | None]]) -> None:
    assert asked() == [STOCK]
    assert asked("poke") == [STOCK]


def test_snapshots_are_collected_with_a_stock_dag_processor_too(
    asked: Callable[..., list[Event | None]],
) -> None:
    references = References(snapshots=("a", "b"))
    assert asked("poke", "references", answers=1) == [STOCK, references]


def test_the_clock_lets_a_save_be_found_within_seconds(tmp_path: Path) -> None:
    values = shared(load({}, project=tmp_path), store="/store")
    told = {BUNDLES: values["dag_processor.dag_bundle_config_list"]}
    quick = clock(told)
    assert CLOCK.items() <= quick.items()
    [bundle] = json.loads(quick[BUNDLES])
    assert bundle["kwargs"] == {"store": "/store", "refresh_interval": 1}
