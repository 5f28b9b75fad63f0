"""Tests of what turns runs into numbers: `python -m pytest benchmarks`."""
