"""Runs InteractionExampleGen on small files and reads what it wrote."""

import json

import tensorflow as tf
from tfx.types import standard_artifacts

from components.artifacts import DeadLetters, ItemCatalog
from components.dataset_spec import DatasetSpec
from components.interaction_example_gen import executor

BEAM_ARGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
]

INTERACTIONS = {
    "files": "log.csv",
    "user": "user",
    "item": "item",
    "timestamp": {"column": "time"},
    "label": {"column": "rating", "at_least": 4},
}


def make_spec(**changes):
    """A spec of log.csv alone; `changes` replace top-level keys."""
    values = {
        "name": "test",
        "interactions": INTERACTIONS,
    }
    return DatasetSpec.from_dict(values | changes, "test.yaml")


def run(spec, folder, output, **properties):
    """Runs the executor; returns (examples, catalog, dead letters)."""
    artifacts = {}
    for name, kind in (
        ("examples", standard_artifacts.Examples),
        ("catalog", ItemCatalog),
        ("dead_letters", DeadLetters),
    ):
        artifacts[name] = kind()
        artifacts[name].uri = str(output / name)
        (output / name).mkdir(parents=True)
    context = executor.Executor.Context(beam_pipeline_args=BEAM_ARGS)
    executor.Executor(context).Do(
        {},
        {name: [artifact] for name, artifact in artifacts.items()},
        {"dataset_spec": spec.to_json(), "data_folder": str(folder)}
        | properties,
    )
    return artifacts


def read_examples(folder):
    """Rows of all TFRecord files of a folder, as dicts without empty lists."""
    rows = []
    for path in sorted(folder.glob("*.gz")):
        dataset = tf.data.TFRecordDataset(str(path), "GZIP")
        for record in dataset.as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            rows.append(
                {
                    name: values
                    for name, feature in example.features.feature.items()
                    if (values := _values(feature))
                }
            )
    return rows


def read_letters(folder):
    """All dead letters of a folder, as dicts."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def _values(feature):
    if feature.HasField("bytes_list"):
        return [value.decode() for value in feature.bytes_list.value]
    if feature.HasField("float_list"):
        return list(feature.float_list.value)
    return list(feature.int64_list.value)
