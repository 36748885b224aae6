"""The schema file: what it holds, and when its path changes."""

import pathlib

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils

from pipeline.schema import build_schema, write_schema
from tests.helpers.raw_examples import ITEM_FEATURES, USER_FEATURES


def test_event_columns_are_dense_and_features_are_not():
    spec = schema_utils.schema_as_feature_spec(
        build_schema([*USER_FEATURES, *ITEM_FEATURES])
    ).feature_spec
    kinds = {name: type(value).__name__ for name, value in spec.items()}
    for name in ("user_id", "item_id", "label", "timestamp", "position"):
        assert kinds.pop(name) == "FixedLenFeature"
        assert spec[name].shape == [1]
    assert set(kinds) == {f.name for f in [*USER_FEATURES, *ITEM_FEATURES]}
    assert set(kinds.values()) == {"VarLenFeature"}


def test_written_schema_reads_back(tmp_path):
    schema = build_schema(USER_FEATURES)
    text = pathlib.Path(write_schema(schema, str(tmp_path))).read_text()
    assert text_format.Parse(text, schema_pb2.Schema()) == schema


def test_path_changes_with_the_schema_only(tmp_path):
    """TFX's cache compares the path and not what is in the file."""
    first = write_schema(build_schema(USER_FEATURES), str(tmp_path))
    same = write_schema(build_schema(USER_FEATURES), str(tmp_path))
    other = write_schema(build_schema(ITEM_FEATURES), str(tmp_path))
    assert first == same != other
