"""What trainer, pipeline and serving agree on: stdlib and NumPy only.

Nothing here imports another package of this project, so that every side can
import it: the SavedModel's manifest, the features a request carries, how a
support set is put together, and the protocol by which quality is measured.
"""
