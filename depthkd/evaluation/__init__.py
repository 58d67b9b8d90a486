"""Models on benchmarks: predictions, metrics, how sure they are, and what has to be said about them."""
