"""Beam: the steps that have the models at hand and fill the tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.utils import shared

from components.cold_start_evaluator import stream_scoring
from components.cold_start_evaluator.score_tables import (
    CANDIDATE,
    FEW_SHOT,
    LAST_BLESSED,
    META_UPDATES,
    STREAM,
    USERS,
    few_shot_column,
    table_schemas,
)
from components.cold_users import ColdUser
from components.served_model import ServedModel
from serving.contract import protocol
from serving.contract.features import CATEGORICAL, JUDGED_ROWS, NUMERIC, Feature
from serving.contract.labels import liked
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.regimes import JOINT, OFFLINE, ONLINE

# One call of `adapt` for this many users: some 10 MB of support sets.
USER_BATCH = 256


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


class ScoreStreamsFn(_ScoringFn):
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
        """Gives the tables `stream` and `meta_updates` of all users."""
        if not users:
            return
        windows = [user.windows for user in users]
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
            (OFFLINE, CANDIDATE, True),
        ):
            columns[name] = _joined(
                scores
                for start in range(0, len(users), USER_BATCH)
                for scores in stream_scoring.stream_scores(
                    self._models[model],
                    users[start : start + USER_BATCH],
                    learn,
                )
            )
        updates: dict[str, list[Any]] = {
            column: []
            for column in ("model", "promoted", "refused", "max_shift")
        }
        for name, model in (
            (ONLINE, CANDIDATE),
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


class ScoreBatchesFn(_ScoringFn):
    """Scores batches of users after every k, and says who they are."""

    def process(
        self, users: Sequence[ColdUser]
    ) -> Iterable[beam.pvalue.TaggedOutput]:
        """Gives the rows of a batch in the tables `few_shot` and `users`."""
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
            JUDGED_ROWS: [sum(len(w.rows) for w in u.windows) for u in users],
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
