"""Timings against peers and floors: run `python -m bench` in the repository's root."""
