"""What offline and online meta-learning are compared with."""
