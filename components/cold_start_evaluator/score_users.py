"""Beam: from raw examples and SavedModels to tables of scores.

Streams are scored by one worker: users who stream in meet a meta state that
those before them have moved. Batches of users are spread for the rest.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
from tfx_bsl.coders import example_coder

from components.cold_start_evaluator.score_tables import (
    FEW_SHOT,
    LAST_BLESSED,
    META_UPDATES,
    STREAM,
    USERS,
    table_schemas,
)
from components.cold_start_evaluator.scoring_steps import (
    USER_BATCH,
    ScoreBatchesFn,
    ScoreStreamsFn,
)
from components.cold_users import ColdUser, join_runs, runs_of_users
from serving.contract.features import Feature
from serving.contract.meta_config import OnlineMetaConfig

_READ_BATCH = 4096


class ScoreUsers(beam.PTransform):
    """From serialized raw examples to the tables, written as Parquet."""

    def __init__(
        self,
        model_paths: Mapping[str, str],
        features: Sequence[Feature],
        output_dir: str,
        max_users: int,
        online_meta: OnlineMetaConfig,
    ) -> None:
        """Sets up the scoring.

        Args:
            model_paths: SavedModel folders: `candidate`, `joint` and, if
                there is one, `last_blessed`.
            features: User features to read; all that any model takes.
            output_dir: Where to write; a folder per table.
            max_users: Score at most so many users.
            online_meta: When and how far the meta state moves in the regime
                `online`.
        """
        super().__init__()
        self._online_meta = online_meta
        self._model_paths = dict(model_paths)
        self._features = tuple(features)
        self._output_dir = Path(output_dir)
        self._max_users = max_users

    def expand(self, examples: beam.PCollection) -> None:
        """Adds the steps to the pipeline."""
        users = (
            examples
            | "BatchExamples" >> beam.BatchElements(_READ_BATCH, _READ_BATCH)
            | "CutByUser" >> beam.ParDo(_CutByUserFn(self._features))
            | "GroupByUser" >> beam.GroupByKey()
        )
        # Figures are computed on one machine, so their number is bounded;
        # the hash chooses, so that every run judges the same users.
        bound = (
            users
            | "Hash" >> beam.Keys()
            | "HashKeys" >> beam.Map(user_hash)
            | "LowestHashes" >> beam.combiners.Top.Smallest(self._max_users)
            | "Bound" >> beam.Map(lambda hashes: max(hashes, default=0))
        )
        some = (
            users
            | "KeepSome"
            >> beam.Filter(
                lambda user, most: user_hash(user[0]) <= most,
                most=beam.pvalue.AsSingleton(bound),
            )
            | "JoinRuns" >> beam.MapTuple(lambda _, runs: join_runs(runs))
        )
        batched = (
            some
            | "BatchUsers" >> beam.BatchElements(USER_BATCH, USER_BATCH)
            | "ScoreBatches"
            >> beam.ParDo(
                ScoreBatchesFn(self._model_paths, self._features)
            ).with_outputs(FEW_SHOT, USERS)
        )
        streams = (
            some
            | "AllUsers" >> beam.combiners.ToList()
            | "ScoreStreams"
            >> beam.ParDo(
                ScoreStreamsFn(
                    self._model_paths, self._features, self._online_meta
                )
            ).with_outputs(STREAM, META_UPDATES)
        )
        tables = {
            STREAM: streams[STREAM],
            META_UPDATES: streams[META_UPDATES],
            FEW_SHOT: batched[FEW_SHOT],
            USERS: batched[USERS],
        }
        schemas = table_schemas(
            self._features, LAST_BLESSED in self._model_paths
        )
        for name, schema in schemas.items():
            _ = tables[
                name
            ] | f"Write[{name}]" >> beam.io.WriteToParquetBatched(
                str(self._output_dir / name / "scores"),
                schema=schema,
                file_name_suffix=".parquet",
            )


def user_hash(user_id: str) -> int:
    """A hash that is the same in every process and version."""
    # 7 bytes: Beam's integers are signed 64-bit.
    digest = hashlib.blake2b(user_id.encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


class _CutByUserFn(beam.DoFn):
    """Decodes batches of examples and keys the runs of users in them."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features

    def setup(self) -> None:
        self._decoder = example_coder.ExamplesToRecordBatchDecoder()

    def process(
        self, examples: Sequence[bytes]
    ) -> Iterator[tuple[str, ColdUser]]:
        batch = self._decoder.DecodeBatch(examples)
        for run in runs_of_users(batch, self._features):
            yield run.user_id, run
