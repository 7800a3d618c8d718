"""Why a pod does not get ready: read from its status and its events, as a person would.

Nothing in this package asks the cluster or knows the time: `reasons_of` looks at the objects that
it is given, and names for how long each reason must last before it counts. A healthy rollout passes
through most of the states that end one: a volume is unbound, and a node full, for some moments.
"""
