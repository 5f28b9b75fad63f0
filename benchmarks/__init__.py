"""Spawning and other WSGI servers side by side, on this machine: `python -m benchmarks --help`."""
