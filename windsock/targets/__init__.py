"""Where an environment runs: one module a target, one protocol for all."""
