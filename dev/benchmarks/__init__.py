"""Benchmarks of windsock, each beside its peer in one run; see docs/performance.md."""
