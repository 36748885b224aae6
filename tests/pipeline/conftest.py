"""Imports the trainer first: it chooses Keras 2 before TensorFlow loads."""

import trainer  # noqa: F401
