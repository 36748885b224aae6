"""The schema that raw examples must follow, built from the declared features.

A schema written down beats one inferred from the data: a broken column can't
teach it that broken is normal. It is strict about the five columns that every
example has, and lenient about features, which may be missing for any user or
item. What each departure means for the run is decided by the anomaly gate
(`components.anomaly_gate.policy`).
"""

import hashlib
import pathlib
from collections.abc import Iterable

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature

_FILE_NAME = "schema.pbtxt"


def build_schema(features: Iterable[Feature]) -> schema_pb2.Schema:
    """Describes the examples that InteractionExampleGen writes.

    Args:
        features: User and item features.

    Returns:
        A schema in which the columns of every event have shape [1] and are
        always there; a feature must be there at least once in a split, and
        holds at most one value unless it is a list.
    """
    schema = schema_pb2.Schema()
    _required(schema, "user_id", schema_pb2.BYTES)
    _required(schema, "item_id", schema_pb2.BYTES)
    label = _required(schema, "label", schema_pb2.FLOAT)
    label.float_domain.min = 0.0
    label.float_domain.max = 1.0
    label.float_domain.disallow_nan = True
    for name in ("timestamp", "position"):
        _required(schema, name, schema_pb2.INT).int_domain.min = 0
    for feature in features:
        _optional(schema, feature)
    return schema


def write_schema(schema: schema_pb2.Schema, folder: str) -> str:
    """Writes the schema where ImportSchemaGen can read it.

    TFX's cache knows a file by its path only. The path therefore holds a
    digest of the contents: the same schema is the same path and found in the
    cache, another schema is not.

    Args:
        schema: What to write.
        folder: Folder for all schemas of a run folder.

    Returns:
        The path of the text proto.
    """
    text = text_format.MessageToString(schema)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = pathlib.Path(folder) / digest / _FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return str(path)


def _required(
    schema: schema_pb2.Schema, name: str, value_type: int
) -> schema_pb2.Feature:
    """Adds a column that every example has exactly once."""
    feature = schema.feature.add(name=name, type=value_type)
    feature.presence.min_fraction = 1.0
    feature.presence.min_count = 1
    feature.shape.dim.add(size=1)
    return feature


def _optional(schema: schema_pb2.Schema, declared: Feature) -> None:
    """Adds a feature that a user or an item may lack."""
    value_type = (
        schema_pb2.FLOAT if declared.kind == NUMERIC else schema_pb2.BYTES
    )
    feature = schema.feature.add(name=declared.name, type=value_type)
    feature.presence.min_count = 1
    if declared.kind != CATEGORICAL_LIST:
        feature.value_count.max = 1
