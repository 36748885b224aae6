"""ColdStartEvaluator: judges a model by the protocol, and blesses it."""
