"""What a run has to know of the machines that it runs on: SLURM, precision, preflight, preemption."""
