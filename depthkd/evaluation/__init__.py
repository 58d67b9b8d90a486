"""Models on benchmarks: answers, figures, how sure they are, and what has to be said about them."""
