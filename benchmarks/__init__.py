"""Benchmarks: this engine beside the ways it is meant to replace; run with `python -m benchmarks`."""
