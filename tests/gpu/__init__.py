"""Whether depthkd works on a GPU, and how fast: `make gpu`. See README.md."""
