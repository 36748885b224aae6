"""InteractionExampleGen: an interaction log, joined and split by user."""
