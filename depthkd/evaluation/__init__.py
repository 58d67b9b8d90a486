"""Models on benchmarks: answers, metrics, how sure they are, and what has to be said about them."""
