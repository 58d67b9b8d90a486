"""Models that complete sparse depth: what needs no training, and networks that refine it."""
