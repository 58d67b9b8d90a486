"""Distill monocular depth networks from other depth networks."""
