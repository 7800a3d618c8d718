"""For those who build windsock: benchmarks, and the test bed's commands."""
