"""What a stock dag-processor needs: a quicker clock, and a channel at the socket.

Each client of the channel (a probe, the agent) learns that a stock dag-processor runs. The sync
process then asks Airflow's API what became of a save.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from windsock.events import References, StockProcessor
from windsock.runtime.processor.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PREFIX = "AIRFLOW__DAG_PROCESSOR__"
BUNDLES = f"{PREFIX}DAG_BUNDLE_CONFIG_LIST"
CLOCK = {
    f"{PREFIX}BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    f"{PREFIX}MIN_FILE_PROCESS_INTERVAL": "2",
}
"""A stock dag-processor parses each file again at this pace, changed or not."""


def clock(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that let a stock dag-processor find a save within seconds.

    The environment has the list of the bundles, as every target sets it.
    """
    bundles = json.loads(environment[BUNDLES])
    for bundle in bundles:
        bundle.setdefault("kwargs", {})["refresh_interval"] = 1
    return {**CLOCK, BUNDLES: json.dumps(bundles)}


def channel(
    path: Path, *, missing: Sequence[str], references: Callable[[], Sequence[str]]
) -> Channel:
    """A channel in place of the live dag-processor's; it serves once it is started.

    Args:
        path: Of the socket; a stale one is replaced.
        missing: What this Airflow lacks for the live dag-processor.
        references: Finds the snapshots that something may still run.
    """
    made = Channel(
        path,
        greeting=lambda: StockProcessor(missing=tuple(missing)),
        requests={
            "poke": lambda _: None,
            "references": lambda _: References(snapshots=tuple(sorted(references()))),
        },
    )
    # A parser is a fork of this process, and must not keep a client waiting.
    os.register_at_fork(after_in_child=made.close)
    return made
