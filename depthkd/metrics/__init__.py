"""Figures: a function and its torchmetrics class side by side."""
