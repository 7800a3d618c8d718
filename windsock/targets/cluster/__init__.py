"""An environment in a cluster: brought up, looked into, taken down."""
