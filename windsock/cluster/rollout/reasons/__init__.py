"""Why a pod does not get ready: read from its status and its events, as a person would.

Nothing here asks the cluster or knows the time: `findings` looks at what is there, and says for how
long each finding must last before it counts. Most states that end a rollout are passed through by
healthy ones, too: a volume is unbound, and a node full, for some moments.
"""

from __future__ import annotations

from windsock.cluster.rollout.reasons.activity import activity
from windsock.cluster.rollout.reasons.finding import Finding
from windsock.cluster.rollout.reasons.surroundings import Surroundings
from windsock.cluster.rollout.reasons.workload import findings

__all__ = ["Finding", "Surroundings", "activity", "findings"]
