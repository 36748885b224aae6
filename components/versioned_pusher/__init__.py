"""VersionedPusher: a model server never sees half of a version."""
