"""A rollout, followed until it is ready or never will be."""
