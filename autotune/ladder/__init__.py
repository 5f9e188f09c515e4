"""The ladder of fidelities: rungs, promotion, checkpoints, rank correlation."""
