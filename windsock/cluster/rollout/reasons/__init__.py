"""Why a pod does not get ready: read from its status and its events, as a person would.

Nothing in this package asks the cluster or knows the time: `reasons_of` looks at what it is given,
and names for how long each reason must last before it counts. A healthy rollout passes through most
of the states that end one: a volume is unbound, and a node full, for some moments.
"""

from __future__ import annotations

from windsock.cluster.rollout.reasons.activity import activity
from windsock.cluster.rollout.reasons.reason import Cause, Reason
from windsock.cluster.rollout.reasons.surroundings import Surroundings
from windsock.cluster.rollout.reasons.workload import reasons_of

__all__ = ["Cause", "Reason", "Surroundings", "activity", "reasons_of"]
