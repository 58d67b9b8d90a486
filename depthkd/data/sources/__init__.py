"""Data sets as training sources, one a file."""
