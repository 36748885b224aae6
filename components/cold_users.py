"""Cold users as the pipeline's raw examples describe them.

Gates and the replay speak to a model through its signatures, which take raw
user features; so they read the raw examples, not the transformed ones. A user
is kept only as far as the protocol looks.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.errors import EvaluationError
from serving.contract import protocol
from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature
from serving.contract.support import SupportEvent

# A raw feature value: text, several texts, or a number.
RawValue = str | tuple[str, ...] | list[str] | float

# Positions from here on are not looked at by any part of the protocol.
JUDGED_POSITIONS = max(
    protocol.FIRST_SUPPORT_EVENTS
    + protocol.MAX_WINDOWS * protocol.WINDOW_EVENTS,
    protocol.FEW_SHOT_QUERY_EVENTS[1],
)

_ROW_COLUMNS = ("user_id", "item_id", "label", "position", "timestamp")


@dataclasses.dataclass(frozen=True)
class ColdUser:
    """One user: raw features, and rows in order.

    Attributes:
        user_id: The user's id.
        features: Raw user features by name; missing ones are absent.
        item_ids: Item of each row, shape [rows], of str.
        labels: From 0 (disliked) to 1 (liked), shape [rows].
        positions: Place of each row's event, shape [rows], not decreasing.
        timestamps: Seconds since the epoch (UTC), shape [rows].
    """

    user_id: str
    features: Mapping[str, RawValue]
    item_ids: NDArray[np.object_]
    labels: NDArray[np.float32]
    positions: NDArray[np.int64]
    timestamps: NDArray[np.int64]

    @property
    def first_support(self) -> NDArray[np.int64]:
        """Indices of the rows of the first support set."""
        return protocol.first_support_rows(self.positions)

    @property
    def windows(self) -> list[protocol.StreamWindow]:
        """The judged windows, in order."""
        return protocol.stream_windows(self.positions)

    def events(self, rows: Iterable[int]) -> tuple[SupportEvent, ...]:
        """The rows with these indices, as a model learns from them."""
        return tuple(
            SupportEvent(self.item_ids[row], float(self.labels[row]))
            for row in rows
        )


def runs_of_users(
    batch: pa.RecordBatch, features: Sequence[Feature]
) -> Iterator[ColdUser]:
    """Cuts a batch of raw examples into runs of one user each.

    Args:
        batch: Decoded tf.Examples: one list column per feature.
        features: User features to keep.

    Yields:
        Users with the rows that are in this batch, which may be a part of
        theirs; `join_runs` puts the parts together.

    Raises:
        EvaluationError: A column is absent, or not one value per example.
    """
    columns = {name: _one_per_row(batch, name) for name in _ROW_COLUMNS}
    judged = np.flatnonzero(columns["position"] < JUDGED_POSITIONS)
    if not len(judged):
        return
    user_ids = columns["user_id"][judged]
    starts = np.flatnonzero(user_ids[1:] != user_ids[:-1]) + 1
    raw = {feature.name: _values(batch, feature.name) for feature in features}
    for rows in np.split(judged, starts):
        first = rows[0]
        yield ColdUser(
            user_id=columns["user_id"][first].decode(),
            features={
                feature.name: value
                for feature in features
                if (value := _raw_value(feature, raw[feature.name][first]))
                is not None
            },
            item_ids=np.array(
                [item.decode() for item in columns["item_id"][rows]], object
            ),
            labels=columns["label"][rows].astype(np.float32),
            positions=columns["position"][rows].astype(np.int64),
            timestamps=columns["timestamp"][rows].astype(np.int64),
        )


def join_runs(runs: Iterable[ColdUser]) -> ColdUser:
    """Puts the runs of one user together, in order of position.

    Rows of one event keep the order in which they were written, so that the
    evaluator learns from them in the order in which a replay sends them.
    """
    ordered = sorted(
        runs, key=lambda run: (run.positions[0], run.positions[-1])
    )
    positions = np.concatenate([run.positions for run in ordered])
    order = np.argsort(positions, kind="stable")
    return dataclasses.replace(
        ordered[0],
        item_ids=np.concatenate([run.item_ids for run in ordered])[order],
        labels=np.concatenate([run.labels for run in ordered])[order],
        positions=positions[order],
        timestamps=np.concatenate([run.timestamps for run in ordered])[order],
    )


def _one_per_row(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise EvaluationError(
            f"The examples have no feature {name!r}. The gates read the raw "
            "examples of InteractionExampleGen, not the transformed ones."
        )
    values = batch.column(index).flatten()
    if len(values) != batch.num_rows:
        raise EvaluationError(
            f"Feature {name!r} has {len(values)} values in {batch.num_rows} "
            "examples; every example needs exactly one."
        )
    return values.to_numpy(zero_copy_only=False)


def _values(batch: pa.RecordBatch, name: str) -> list[list[object] | None]:
    index = batch.schema.get_field_index(name)
    if index < 0:  # No example of this batch has a value.
        return [None] * batch.num_rows
    return batch.column(index).to_pylist()


def _raw_value(
    feature: Feature, values: Sequence[object] | None
) -> RawValue | None:
    """A feature's value as a client sends it, or None if it is missing."""
    if not values:
        return None
    if feature.kind == NUMERIC:
        number = float(values[0])  # type: ignore[arg-type]
        return None if np.isnan(number) else number
    texts = tuple(value.decode() for value in values)  # type: ignore[attr-defined]
    return texts if feature.kind == CATEGORICAL_LIST else texts[0] or None
