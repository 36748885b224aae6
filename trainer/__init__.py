"""The learning: towers, partition, inner loop, outer loop, export."""

import os

# TFRS stands on Keras 2; this must be set before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
