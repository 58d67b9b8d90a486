"""Bytes on disk <-> arrays."""
