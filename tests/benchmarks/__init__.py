"""Figures to hold, each against a yardstick measured in the same run: `python -m tests.benchmarks`."""
