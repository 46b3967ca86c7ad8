"""Benchmarks: ratios of things measured in the same run, on servers of their own."""
