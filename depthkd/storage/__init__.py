"""Files wherever they lie: on this machine, or on others through fsspec."""
