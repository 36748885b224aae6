"""Rebase: who is known is known to the next version, too."""
