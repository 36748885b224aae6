"""AnomalyGate: stops a run on examples that must not be learned from."""
