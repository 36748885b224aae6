"""The cold users' raw stream, read from the pipeline's own examples.

What the replay sends through the gateway is what InteractionExampleGen wrote
for the split `meta_test`: raw features as a client knows them, untouched by
Transform. Only the events that the protocol uses (the first support set and
`MAX_WINDOWS` windows) are kept, so a user costs at most
`JUDGED_POSITIONS` events of memory however long its history is.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ColdStreamError
from pipeline.raw_examples import as_text, list_column, record_batches
from serving.contract import features as contract_features
from serving.contract import protocol, timeline

# A raw feature value as a client sends it: text, several texts, or a number.
RawValue = str | tuple[str, ...] | float

JUDGED_POSITIONS = (
    protocol.FIRST_SUPPORT_EVENTS
    + protocol.MAX_WINDOWS * protocol.WINDOW_EVENTS
)

_ROW_COLUMNS = ("user_id", "item_id", "label", "timestamp", "position")


@dataclasses.dataclass(frozen=True)
class ColdUser:
    """One cold user: what is known at arrival, and the events that follow.

    Attributes:
        user_id: The user's id.
        features: Raw user features by name; missing ones are absent.
        item_ids: Item of each row, shape [rows], of str.
        labels: From 0 (disliked) to 1 (liked), shape [rows].
        positions: Place of each row's event in the user's order, shape
            [rows], not decreasing; sampled negatives share their event's.
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


@dataclasses.dataclass(frozen=True)
class ColdStream:
    """All cold users, in the order in which they arrive.

    Attributes:
        users: Ordered by the time of their first event, ties by user id.
    """

    users: tuple[ColdUser, ...]

    @property
    def num_windows(self) -> int:
        """How many windows are judged, over all users."""
        return sum(len(user.windows) for user in self.users)


def load_cold_stream(
    examples_dir: str,
    user_features: Sequence[contract_features.Feature],
    split: str = protocol.META_TEST,
    max_users: int | None = None,
) -> ColdStream:
    """Reads the raw stream of the cold users.

    Args:
        examples_dir: URI of InteractionExampleGen's `examples` artifact.
        user_features: The dataset's user features; a client sends these.
        split: Which users.
        max_users: Keep only the first so many arrivals; all by default.

    Returns:
        The users in the order of their first event.

    Raises:
        ColdStreamError: There are no files, a column is missing, or no user
            has enough events to be judged.
    """
    pattern = f"{examples_dir}/Split-{split}/*.gz"
    paths = sorted(Path(examples_dir, f"Split-{split}").glob("*.gz"))
    if not paths:
        raise ColdStreamError(
            f"No examples match {pattern}. Run the pipeline up to "
            "InteractionExampleGen first (`adaptower run`), or name the "
            "folder of its `examples` artifact."
        )
    parts: dict[str, list[ColdUser]] = {}
    for path in paths:
        for batch in record_batches(path):
            for part in _split_by_user(batch, user_features, path):
                parts.setdefault(part.user_id, []).append(part)
    users = [_join(runs) for runs in parts.values()]
    users = [user for user in users if user.windows]
    if not users:
        raise ColdStreamError(
            f"No user under {pattern} has more than "
            f"{protocol.FIRST_SUPPORT_EVENTS} events, so nothing can be "
            "judged. Use a dataset with longer histories."
        )
    order = timeline.arrival_order(users)[:max_users]
    return ColdStream(tuple(users[index] for index in order))


def _split_by_user(
    batch: pa.RecordBatch,
    user_features: Sequence[contract_features.Feature],
    path: Path,
) -> Iterator[ColdUser]:
    """Yields each run of rows of one user, as a part of its stream."""
    missing = [
        name for name in _ROW_COLUMNS if batch.schema.get_field_index(name) < 0
    ]
    if missing:
        raise ColdStreamError(
            f"{path} lacks the column(s) {', '.join(missing)}; its records "
            "were not written by InteractionExampleGen."
        )
    columns = {name: _first_values(batch, name, path) for name in _ROW_COLUMNS}
    judged = np.flatnonzero(columns["position"] < JUDGED_POSITIONS)
    user_ids = columns["user_id"][judged]
    starts = np.flatnonzero(np.r_[True, user_ids[1:] != user_ids[:-1]])
    raw = {f.name: list_column(batch, f.name) for f in user_features}
    for rows in np.split(judged, starts[1:]) if len(judged) else ():
        first = rows[0]
        values = (
            (feature.name, _raw_value(feature, raw[feature.name][first]))
            for feature in user_features
        )
        yield ColdUser(
            user_id=as_text(columns["user_id"][first]),
            features={
                name: value for name, value in values if value is not None
            },
            item_ids=np.array(
                [as_text(item) for item in columns["item_id"][rows]], object
            ),
            labels=columns["label"][rows].astype(np.float32),
            positions=columns["position"][rows].astype(np.int64),
            timestamps=columns["timestamp"][rows].astype(np.int64),
        )


def _join(parts: Sequence[ColdUser]) -> ColdUser:
    """Puts the parts of a user's stream together, by position."""
    positions = np.concatenate([part.positions for part in parts])
    # Stable: rows of one event keep the order in which they were written.
    order = np.argsort(positions, kind="stable")
    return ColdUser(
        user_id=parts[0].user_id,
        features=parts[0].features,
        item_ids=np.concatenate([p.item_ids for p in parts])[order],
        labels=np.concatenate([p.labels for p in parts])[order],
        positions=positions[order],
        timestamps=np.concatenate([p.timestamps for p in parts])[order],
    )


def _first_values(batch: pa.RecordBatch, name: str, path: Path) -> NDArray[Any]:
    """The one value each record has of a column, shape [records]."""
    column = batch.column(batch.schema.get_field_index(name))
    values = column.flatten()
    if len(values) != batch.num_rows:
        raise ColdStreamError(
            f"{path}: column {name!r} has {len(values)} values in "
            f"{batch.num_rows} records; every record needs exactly one."
        )
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


def _raw_value(
    feature: contract_features.Feature, values: Sequence[object]
) -> RawValue | None:
    """A feature's value as a client sends it, or None if it is missing."""
    if feature.kind == contract_features.CATEGORICAL_LIST:
        return tuple(as_text(value) for value in values) or None
    if not values:
        return None
    if feature.kind == contract_features.NUMERIC:
        number = float(values[0])  # type: ignore[arg-type]
        return None if math.isnan(number) else number
    return as_text(values[0]) or None
