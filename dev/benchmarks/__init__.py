"""Benchmarks of windsock, each with its peer in one run; see docs/performance.md."""
