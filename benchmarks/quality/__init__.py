"""How good cold-start recommendations are: every regime, dataset and seed."""
