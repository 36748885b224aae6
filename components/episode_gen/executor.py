"""What EpisodeGen does, on Beam."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.metrics import Metrics, MetricsFilter
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.episode_gen.catalog import CatalogTransformer
from components.episode_gen.rows import ROW_COLUMNS, EpisodePacker
from components.errors import EpisodeError

EXAMPLES = "transformed_examples"
TRANSFORM_GRAPH = "transform_graph"
CATALOG = "catalog"
EPISODES = "episodes"
USER_FEATURES = "user_features"
ITEM_FEATURES = "item_features"
CATALOG_SPLIT = "catalog"

_BATCH_ROWS = 4096
_NAMESPACE = "adaptower.EpisodeGen"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes an Example per user, and one per item in split `catalog`.

    A user's record: `user_id` bytes[1]; `item_id` bytes[n], `label` float[n],
    `timestamp` and `position` int64[n], one value per event, in order; the
    ids of the user features, int64[1], or int64[m] for lists.

    An item's record: `item_id` bytes[1], `item_index` int64[1], the ids of
    the item features, and `display_title` as it was.

    Memory holds a batch of rows or the events of one user, never more.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the pipeline and notes how much it wrote.

        Raises:
            EpisodeError: A split has no files, or rows lack a column.
        """
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES])
        transform_uri = artifact_utils.get_single_uri(
            input_dict[TRANSFORM_GRAPH]
        )
        catalog_uri = artifact_utils.get_single_uri(input_dict[CATALOG])
        episodes = artifact_utils.get_single_instance(output_dict[EPISODES])
        user_features = json.loads(exec_properties[USER_FEATURES])
        item_features = json.loads(exec_properties[ITEM_FEATURES])
        schema = _row_schema(transform_uri, user_features)
        splits = artifact_utils.decode_split_names(examples.split_names)
        episodes.split_names = artifact_utils.encode_split_names(
            [*splits, CATALOG_SPLIT]
        )

        examples_utils.set_payload_format(
            episodes, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
        )

        with self._make_beam_pipeline() as pipeline:
            for split in splits:
                uri = artifact_utils.get_split_uri([examples], split)
                _ = (
                    pipeline
                    | f"Read[{split}]" >> _ReadBatches(uri)
                    | f"Pack[{split}]"
                    >> beam.ParDo(_Pack(schema, user_features, split))
                    | f"ByUser[{split}]" >> beam.GroupByKey()
                    | f"Merge[{split}]"
                    >> beam.ParDo(_Merge(schema, user_features, split))
                    | f"Write[{split}]" >> _write(episodes, split)
                )
            _ = (
                pipeline
                | "ReadCatalog" >> _ReadBatches(catalog_uri)
                | "TransformCatalog"
                >> beam.ParDo(_TransformItems(transform_uri, item_features))
                | "WriteCatalog" >> _write(episodes, CATALOG_SPLIT)
            )
        _note_counts(episodes, pipeline.result)


class _ReadBatches(beam.PTransform):
    """Reads TFRecord files in batches, in C++ and not record by record."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._files = [
            path
            for path in sorted(fileio.glob(f"{uri}/*"))
            if not fileio.isdir(path)
        ]
        if not self._files:
            raise EpisodeError(
                f"There is no file of records in {uri}. The component that "
                "wrote the folder found nothing for this split, or somebody "
                "removed its files: run without cache."
            )

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | beam.Create(self._files)
            | beam.Reshuffle()
            | beam.FlatMap(_batches)
        )


def _batches(path: str) -> Iterator[Sequence[bytes]]:
    kind = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression_type=kind)
    for batch in records.batch(_BATCH_ROWS).as_numpy_iterator():
        yield batch.tolist()


def _write(episodes: types.Artifact, split: str) -> beam.PTransform:
    uri = artifact_utils.get_split_uri([episodes], split)
    return beam.io.WriteToTFRecord(f"{uri}/episodes", file_name_suffix=".gz")


@beam.typehints.with_output_types(tuple[bytes, bytes])
class _Pack(beam.DoFn):
    """Batches of rows to (user id, chunk of its episode)."""

    def __init__(
        self, schema: bytes, user_features: Sequence[str], split: str
    ) -> None:
        self._arguments = schema, user_features
        self._rows = Metrics.counter(_NAMESPACE, f"rows_{split}")

    def setup(self) -> None:
        self._packer = EpisodePacker(*self._arguments)

    def process(
        self, examples: Sequence[bytes]
    ) -> Iterable[tuple[bytes, bytes]]:
        self._rows.inc(len(examples))
        return self._packer.pack(examples)


@beam.typehints.with_output_types(bytes)
class _Merge(beam.DoFn):
    """(user id, its chunks) to its episode."""

    def __init__(
        self, schema: bytes, user_features: Sequence[str], split: str
    ) -> None:
        self._arguments = schema, user_features
        self._users = Metrics.counter(_NAMESPACE, f"users_{split}")

    def setup(self) -> None:
        self._packer = EpisodePacker(*self._arguments)

    def process(self, user: tuple[bytes, Iterable[bytes]]) -> Iterable[bytes]:
        self._users.inc()
        yield self._packer.merge(list(user[1]))


@beam.typehints.with_output_types(bytes)
class _TransformItems(beam.DoFn):
    """Batches of raw items to transformed ones."""

    def __init__(
        self, transform_uri: str, item_features: Sequence[str]
    ) -> None:
        self._arguments = transform_uri, item_features
        self._items = Metrics.counter(_NAMESPACE, "items")

    def setup(self) -> None:
        self._transformer = CatalogTransformer(*self._arguments)

    def process(self, examples: Sequence[bytes]) -> Iterable[bytes]:
        self._items.inc(len(examples))
        return self._transformer.transform(examples)


def _row_schema(transform_uri: str, user_features: Sequence[str]) -> bytes:
    """The part of the transformed schema that episodes are made of."""
    full = tft.TFTransformOutput(transform_uri).transformed_metadata.schema
    declared = {feature.name: feature for feature in full.feature}
    schema = schema_pb2.Schema()
    for name in ("user_id", *ROW_COLUMNS, *user_features):
        if name not in declared:
            raise EpisodeError(
                f"The transformed examples have no column {name!r}, only "
                f"{', '.join(sorted(declared))}. The preprocessing_fn must "
                "give it."
            )
        schema.feature.add(name=name, type=declared[name].type)
    return schema.SerializeToString()


def _note_counts(episodes: types.Artifact, result: Any) -> None:
    """Keeps the numbers of rows, users and items with the artifact."""
    query = MetricsFilter().with_namespace(_NAMESPACE)
    counts: dict[str, int] = {}
    for counter in result.metrics().query(query)["counters"]:
        name = counter.key.metric.name
        counts[name] = counts.get(name, 0) + counter.result
    totals = dict.fromkeys(("rows", "users", "items"), 0)
    for name, count in counts.items():
        episodes.set_int_custom_property(name, count)
        totals[name.split("_")[0]] += count
    episodes.set_string_custom_property(
        "summary",
        ", ".join(f"{count:,} {name}" for name, count in totals.items()),
    )
