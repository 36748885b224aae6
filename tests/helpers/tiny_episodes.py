"""A transform graph and an episodes artifact for it, made in seconds.

The graph is that of `pipeline.preprocessing`, analysed by tf.Transform itself
instead of by TFX's component; episodes are gathered in plain Python.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

from tests.helpers import raw_examples  # isort: skip - sets Keras 2

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx_bsl.tfxio import tf_example_record

from components.episode_gen.catalog import CatalogTransformer
from pipeline import preprocessing, schema


@dataclasses.dataclass(frozen=True)
class TinyEpisodes:
    """Where everything lies.

    Attributes:
        data: The raw rows.
        graph: Folder of the transform graph.
        episodes: Folder with `Split-*`.
    """

    data: raw_examples.RawData
    graph: pathlib.Path
    episodes: pathlib.Path

    def pattern(self, split: str) -> str:
        """Files of a split."""
        return str(self.episodes / f"Split-{split}" / "*")


def write_tiny_episodes(folder: pathlib.Path) -> TinyEpisodes:
    """Makes events of 36 users, the graph of meta_train and episodes."""
    data = raw_examples.make_raw_data(events_per_user=35)
    graph = folder / "graph"
    _write_graph(data.events["meta_train"], graph, folder)
    for split, rows in data.events.items():
        raw_examples.write_records(
            folder / "episodes" / f"Split-{split}" / "data.gz",
            _episodes(rows, graph),
        )
    transformer = CatalogTransformer(
        str(graph), [f.name for f in raw_examples.ITEM_FEATURES]
    )
    raw_examples.write_records(
        folder / "episodes" / "Split-catalog" / "data.gz",
        transformer.transform(
            [raw_examples.to_example(i) for i in data.catalog]
        ),
    )
    return TinyEpisodes(data, graph, folder / "episodes")


def _write_graph(
    rows: Sequence[raw_examples.Row],
    graph: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    raw_schema = schema.build_schema(
        [*raw_examples.USER_FEATURES, *raw_examples.ITEM_FEATURES]
    )
    source = tf_example_record.TFExampleBeamRecord(
        physical_format="inmem", telemetry_descriptors=[], schema=raw_schema
    )
    config = raw_examples.features_config()
    options = PipelineOptions(raw_examples.BEAM_ARGS)
    with (
        beam.Pipeline(options=options) as pipeline,
        tft_beam.Context(temp_dir=str(folder / "tmp")),
    ):
        batches = (
            pipeline
            | beam.Create([raw_examples.to_example(row) for row in rows])
            | source.BeamSource()
        )
        function = (batches, source.TensorAdapterConfig()) | (
            tft_beam.AnalyzeDataset(
                lambda inputs: preprocessing.preprocessing_fn(inputs, config)
            )
        )
        _ = function | tft_beam.WriteTransformFn(str(graph))
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata(raw_schema), str(graph / "metadata")
    )


def _episodes(
    rows: Sequence[raw_examples.Row], graph: pathlib.Path
) -> list[bytes]:
    """One record per user, its features transformed."""
    layer = tft.TFTransformOutput(str(graph)).transform_features_layer()
    users = [
        list(group)
        for _, group in itertools.groupby(rows, lambda row: row["user_id"])
    ]
    names = [f.name for f in raw_examples.USER_FEATURES]
    spec = {
        name: tf.io.VarLenFeature(tf.float32 if name == "age" else tf.string)
        for name in names
    }
    firsts = [raw_examples.to_example(group[0]) for group in users]
    ids = layer(tf.io.parse_example(firsts, spec))
    episodes = []
    for index, group in enumerate(users):
        episode = {"user_id": group[0]["user_id"]}
        for column in ("item_id", "label", "timestamp", "position"):
            episode[column] = [row[column] for row in group]
        for name in names:
            value = ids[name]
            if isinstance(value, tf.SparseTensor):
                value = tf.RaggedTensor.from_sparse(value)
            episode[name] = value[index].numpy().reshape(-1).tolist()
        episodes.append(raw_examples.to_example(episode))
    return episodes
