"""What a model costs: parameters, multiply-adds, memory and latency of one forward pass."""
