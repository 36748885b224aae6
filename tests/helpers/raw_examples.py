"""Small raw examples in the form that InteractionExampleGen writes.

Pure Python records, written one at a time: an implementation independent of
the columnar one that is under test.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
from tfx.components.transform import executor as transform_executor
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import proto_utils

from components.artifacts import ItemCatalog
from pipeline import schema
from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    NUMERIC,
    Feature,
)

SPLITS = ("meta_train", "meta_valid", "meta_test")
USER_FEATURES = (
    Feature("gender", CATEGORICAL),
    Feature("age", NUMERIC),
    Feature("hobbies", CATEGORICAL_LIST),
)
ITEM_FEATURES = (
    Feature("genres", CATEGORICAL_LIST),
    Feature("year", NUMERIC),
    Feature("studio", CATEGORICAL),
)
BEAM_ARGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
]

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RawData:
    """Events per split and the catalog, as plain dicts; None is missing."""

    events: Mapping[str, Sequence[Row]]
    catalog: Sequence[Row]


def make_raw_data(
    users_per_split: int = 12, events_per_user: int = 20, items: int = 40
) -> RawData:
    """Makes users, items and events, with values missing here and there."""
    rng = np.random.default_rng(7)
    catalog = [
        {
            "item_id": f"{item:04d}",
            "genres": sorted(
                rng.choice(["Drama", "War", "Noir"], rng.integers(0, 3), False)
            ),
            "year": None if item % 9 == 0 else float(1950 + item),
            "studio": None if item % 7 == 0 else f"studio-{item % 5}",
            "display_title": f"Title, {item}",
        }
        for item in range(items)
    ]
    events: dict[str, list[Row]] = {}
    for split in SPLITS:
        events[split] = []
        for number in range(users_per_split):
            user = {
                "user_id": f"{split}-{number:03d}",
                "gender": rng.choice(["f", "m", None]),
                "age": None if number % 4 == 0 else float(rng.integers(18, 80)),
                "hobbies": ["chess", "go"][: number % 3],
            }
            # Cold users meet items that no meta_train user has met.
            known = items if split != "meta_train" else items - 5
            for position in range(events_per_user):
                item = dict(catalog[rng.integers(known)])
                item.pop("display_title")
                event = {
                    "label": float(rng.integers(2)),
                    "timestamp": 1_000_000 + 60 * position,
                    "position": position,
                }
                events[split].append(user | item | event)
    return RawData(events, catalog)


def to_example(row: Row) -> bytes:
    """Writes a row as a tf.Example; a missing value is an absent feature."""
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        for one in values:
            if one is None:
                continue
            if isinstance(one, str):
                feature.bytes_list.value.append(one.encode())
            elif isinstance(one, float):
                feature.float_list.value.append(one)
            else:
                feature.int64_list.value.append(int(one))
    return example.SerializeToString()


def from_example(serialized: bytes) -> dict[str, list[Any]]:
    """Reads every feature of a tf.Example as a list."""
    example = tf.train.Example.FromString(serialized)
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in example.features.feature.items()
        if feature.WhichOneof("kind")
    }


def write_records(path: pathlib.Path, records: Sequence[bytes]) -> None:
    """Writes a TFRecord file, gzip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for record in records:
            writer.write(record)


def read_records(folder: pathlib.Path) -> list[dict[str, list[Any]]]:
    """Reads all TFRecord files of a folder."""
    files = sorted(str(path) for path in folder.iterdir())
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    return [from_example(record) for record in records.as_numpy_iterator()]


def write_raw_artifacts(
    data: RawData, folder: pathlib.Path
) -> tuple[standard_artifacts.Examples, ItemCatalog]:
    """Writes both artifacts of InteractionExampleGen."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split in SPLITS:
        write_records(
            folder / "examples" / f"Split-{split}" / "data-00000.gz",
            [to_example(row) for row in data.events[split]],
        )
    catalog = ItemCatalog()
    catalog.uri = str(folder / "catalog")
    write_records(
        folder / "catalog" / "catalog-00000.gz",
        [to_example(row) for row in data.catalog],
    )
    return examples, catalog


def run_transform(
    examples: standard_artifacts.Examples,
    folder: pathlib.Path,
    preprocessing_fn: str = "pipeline.preprocessing.preprocessing_fn",
) -> tuple[standard_artifacts.Examples, standard_artifacts.TransformGraph]:
    """Runs TFX's Transform as the pipeline does."""
    schema_artifact = standard_artifacts.Schema()
    schema_path = schema.write_schema(
        schema.build_schema([*USER_FEATURES, *ITEM_FEATURES]),
        str(folder / "schema"),
    )
    schema_artifact.uri = str(pathlib.Path(schema_path).parent)
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(folder / "transform_graph")
    transformed = standard_artifacts.Examples()
    transformed.uri = str(folder / "transformed_examples")
    context = transform_executor.Executor.Context(
        beam_pipeline_args=list(BEAM_ARGS),
        tmp_dir=str(folder / "tmp"),
        unique_id="1",
    )
    transform_executor.Executor(context).Do(
        {"examples": [examples], "schema": [schema_artifact]},
        {"transform_graph": [graph], "transformed_examples": [transformed]},
        {
            "preprocessing_fn": preprocessing_fn,
            "custom_config": json.dumps(features_config()),
            "splits_config": proto_utils.proto_to_json(
                transform_pb2.SplitsConfig(
                    analyze=["meta_train"], transform=list(SPLITS)
                )
            ),
            "disable_statistics": 1,
            "force_tf_compat_v1": 0,
        },
    )
    return transformed, graph


def features_config() -> dict[str, Any]:
    """The custom_config that preprocessing_fn takes."""
    return {
        "user_features": [f.to_dict() for f in USER_FEATURES],
        "item_features": [f.to_dict() for f in ITEM_FEATURES],
    }
