"""Depth networks behind one interface."""
