"""The agent and its snapshot store: standard library only, it stands alone."""
