"""Watching a run: what it logs and where to, how fast it is, and what holds it up."""
