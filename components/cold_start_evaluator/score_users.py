"""Beam: from raw examples and SavedModels to tables of scores.

Parquet tables, small enough to look at with pandas:

- `stream`, a row per judged row of a stream: user_id, item_id, label, position,
  window, a score per regime, and one of `last_blessed` if there is such;
- `few_shot`, a row per row of a query set: user_id, item_id, label, position,
  a score per k (`k_0` ...) and one of `joint`;
- `users`, a row per user: user_id, judged_rows, and its features but lists;
- `meta_updates`, a row per model of the regime `online`: model, how many new
  meta states were promoted and refused, and the largest shift of a value.

Scores are logits. Streams are scored by one worker: users who stream in meet
a meta state that those before them have moved. Batches of users are spread
for the rest. The tables serve the figures, the slices, and whoever
compares them with what a gateway answered.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.utils import shared
from tfx_bsl.coders import example_coder

from components.cold_start_evaluator import stream_scoring
from components.cold_users import ColdUser, join_runs, runs_of_users
from components.served_model import ServedModel
from serving.contract import protocol
from serving.contract.features import CATEGORICAL, NUMERIC, Feature
from serving.contract.labels import liked
from serving.contract.meta_config import OnlineMetaConfig

CANDIDATE = "candidate"
JOINT = stream_scoring.JOINT
LAST_BLESSED = "last_blessed"

STREAM = "stream"
FEW_SHOT = "few_shot"
USERS = "users"
META_UPDATES = "meta_updates"

_READ_BATCH = 4096
# One call of `adapt` for this many users: some 10 MB of support sets.
_USER_BATCH = 256
_ROW_FIELDS = (
    ("user_id", pa.string()),
    ("item_id", pa.string()),
    ("label", pa.float32()),
    ("position", pa.int64()),
)


def few_shot_column(support_size: int) -> str:
    """Name of the column of scores after k events."""
    return f"k_{support_size}"


def table_schemas(
    features: Sequence[Feature], with_last_blessed: bool
) -> dict[str, pa.Schema]:
    """Schemas of the tables."""
    scores = [*stream_scoring.REGIMES]
    if with_last_blessed:
        scores.append(LAST_BLESSED)
    by_k = [few_shot_column(k) for k in protocol.FEW_SHOT_SUPPORT_SIZES]
    kinds = {CATEGORICAL: pa.string(), NUMERIC: pa.float32()}
    return {
        STREAM: pa.schema(
            [
                *_ROW_FIELDS,
                ("window", pa.int32()),
                *((name, pa.float32()) for name in scores),
            ]
        ),
        FEW_SHOT: pa.schema(
            [*_ROW_FIELDS, *((name, pa.float32()) for name in (JOINT, *by_k))]
        ),
        USERS: pa.schema(
            [
                ("user_id", pa.string()),
                ("judged_rows", pa.int64()),
                *((f.name, kinds[f.kind]) for f in features if f.kind in kinds),
            ]
        ),
        META_UPDATES: pa.schema(
            [
                ("model", pa.string()),
                ("promoted", pa.int64()),
                ("refused", pa.int64()),
                ("max_shift", pa.float32()),
            ]
        ),
    }


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
            | "BatchUsers" >> beam.BatchElements(_USER_BATCH, _USER_BATCH)
            | "ScoreBatches"
            >> beam.ParDo(
                _ScoreBatchesFn(self._model_paths, self._features)
            ).with_outputs(FEW_SHOT, USERS)
        )
        streams = (
            some
            | "AllUsers" >> beam.combiners.ToList()
            | "ScoreStreams"
            >> beam.ParDo(
                _ScoreStreamsFn(
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


class _Models(dict[str, ServedModel]):
    """The loaded models; a class of its own so that it can be shared."""


class _ScoringFn(beam.DoFn):
    """Has the models at hand."""

    def __init__(
        self, model_paths: Mapping[str, str], features: Sequence[Feature]
    ) -> None:
        self._model_paths = model_paths
        self._features = features
        self._shared = shared.Shared()

    def setup(self) -> None:
        # Once per process, however many threads run this step.
        self._models = self._shared.acquire(
            lambda: _Models(
                {
                    name: ServedModel.load(path)
                    for name, path in self._model_paths.items()
                }
            )
        )

    def _output(
        self, name: str, columns: Mapping[str, Any]
    ) -> beam.pvalue.TaggedOutput:
        schemas = table_schemas(self._features, LAST_BLESSED in self._models)
        table = pa.Table.from_pydict(columns, schema=schemas[name])
        return beam.pvalue.TaggedOutput(name, table)


class _ScoreStreamsFn(_ScoringFn):
    """Scores all users' streams under every regime."""

    def __init__(
        self,
        model_paths: Mapping[str, str],
        features: Sequence[Feature],
        online_meta: OnlineMetaConfig,
    ) -> None:
        super().__init__(model_paths, features)
        self._online_meta = online_meta

    def process(
        self, users: Sequence[ColdUser]
    ) -> Iterable[beam.pvalue.TaggedOutput]:
        if not users:
            return
        windows = [protocol.stream_windows(user.positions) for user in users]
        columns = _row_columns(
            users, [_joined(window.rows for window in w) for w in windows]
        )
        columns["window"] = _joined(
            np.full(len(window.rows), window.number)
            for w in windows
            for window in w
        )
        for name, model, learn in (
            (JOINT, JOINT, False),
            (stream_scoring.OFFLINE, CANDIDATE, True),
        ):
            columns[name] = _joined(
                scores
                for start in range(0, len(users), _USER_BATCH)
                for scores in stream_scoring.stream_scores(
                    self._models[model],
                    users[start : start + _USER_BATCH],
                    learn,
                )
            )
        updates: dict[str, list[Any]] = {
            column: []
            for column in ("model", "promoted", "refused", "max_shift")
        }
        for name, model in (
            (stream_scoring.ONLINE, CANDIDATE),
            (LAST_BLESSED, LAST_BLESSED),
        ):
            if model not in self._models:
                continue
            online = stream_scoring.online_scores(
                self._models[model], users, self._online_meta
            )
            columns[name] = _joined(online.scores)
            updates["model"].append(model)
            updates["promoted"].append(online.progress.promoted)
            updates["refused"].append(online.progress.refused)
            updates["max_shift"].append(online.progress.max_shift)
        yield self._output(STREAM, columns)
        yield self._output(META_UPDATES, updates)


class _ScoreBatchesFn(_ScoringFn):
    """Scores batches of users after every k, and says who they are."""

    def process(
        self, users: Sequence[ColdUser]
    ) -> Iterable[beam.pvalue.TaggedOutput]:
        yield self._output(FEW_SHOT, self._few_shot(users))
        yield self._output(USERS, self._users(users))

    def _few_shot(self, users: Sequence[ColdUser]) -> dict[str, Any]:
        rows = [protocol.few_shot_rows(user.positions, 0)[1] for user in users]
        columns = _row_columns(users, rows)
        by_column = {JOINT: (JOINT, 0)} | {
            few_shot_column(k): (CANDIDATE, k)
            for k in protocol.FEW_SHOT_SUPPORT_SIZES
        }
        for column, (model, support_size) in by_column.items():
            columns[column] = np.concatenate(
                stream_scoring.few_shot_scores(
                    self._models[model], users, support_size
                )
            )
        return columns

    def _users(self, users: Sequence[ColdUser]) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "user_id": [user.user_id for user in users],
            "judged_rows": [
                sum(len(w.rows) for w in protocol.stream_windows(u.positions))
                for u in users
            ],
        }
        for feature in self._features:
            if feature.kind in (CATEGORICAL, NUMERIC):
                columns[feature.name] = [
                    user.features.get(feature.name) for user in users
                ]
        return columns


def _row_columns(
    users: Sequence[ColdUser], rows: Sequence[np.ndarray]
) -> dict[str, Any]:
    """The columns that say which row a score belongs to."""
    chosen = list(zip(users, rows, strict=True))
    return {
        "user_id": np.repeat(
            np.array([user.user_id for user in users], object),
            [len(r) for r in rows],
        ),
        "item_id": np.concatenate([user.item_ids[r] for user, r in chosen]),
        "label": liked(
            np.concatenate([user.labels[r] for user, r in chosen])
        ).astype(np.float32),
        "position": np.concatenate([user.positions[r] for user, r in chosen]),
    }


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])
