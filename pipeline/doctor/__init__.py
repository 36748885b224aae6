"""Is this machine ready? The checks behind `adaptower doctor`."""
