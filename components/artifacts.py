"""Artifact types of Adaptower's own components."""

from tfx.types.artifact import Artifact
from tfx.types.system_artifacts import Dataset


class ItemCatalog(Artifact):
    """Every item, one tf.Example each, sorted by `item_id`, TFRecord gzip."""

    TYPE_NAME = "ItemCatalog"
    TYPE_ANNOTATION = Dataset


class DeadLetters(Artifact):
    """Input rows that can't be used, as JSON lines, and their counts."""

    TYPE_NAME = "DeadLetters"


class DataBlessing(Artifact):
    """Says that examples may be learned from; what the anomaly gate gives."""

    TYPE_NAME = "DataBlessing"


class RebaseResult(Artifact):
    """How many users were learned again for a model; says nothing of who."""

    TYPE_NAME = "RebaseResult"
