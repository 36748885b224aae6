"""From rows of many users to one tf.Example per user, column by column.

Nothing here touches a row in Python: Arrow sorts and cuts the columns, and
tfx_bsl's C++ coder writes the Examples. The Example of a user's first rows has
the form of the finished one, so that chunks of a user merge with the same
code that packed them.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from tfx_bsl.coders import example_coder

from components.errors import EpisodeError

# What an episode keeps of each event, in the order of the events.
ROW_COLUMNS = ("item_id", "label", "timestamp", "position")


class EpisodePacker:
    """Packs rows into episodes and merges episodes of the same user."""

    def __init__(
        self, serialized_schema: bytes, user_features: Sequence[str]
    ) -> None:
        """Prepares the coders.

        Args:
            serialized_schema: tfmd Schema with `user_id`, `ROW_COLUMNS` and
                the user features.
            user_features: Names of what is the same in all rows of a user.
        """
        self._decoder = example_coder.ExamplesToRecordBatchDecoder(
            serialized_schema
        )
        self._encoder = example_coder.RecordBatchToExamplesEncoder()
        self._user_features = tuple(user_features)

    def pack(self, examples: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Gathers the rows of each user.

        Args:
            examples: Serialized tf.Examples, one per event.

        Returns:
            (user id, serialized episode) in order of first appearance.

        Raises:
            EpisodeError: A row doesn't have exactly one value in each column.
        """
        batch = self._decoder.DecodeBatch(examples)
        columns = {
            name: _one_per_row(batch, name)
            for name in ("user_id", *ROW_COLUMNS)
        }
        users = columns.pop("user_id").dictionary_encode()
        codes = users.indices.to_numpy()
        order = _event_order(columns, codes)
        ends = np.cumsum(np.bincount(codes, minlength=len(users.dictionary)))
        offsets = np.concatenate([[0], ends])
        first_rows = pa.array(order[offsets[:-1]])
        episodes = self._encode(
            user_ids=users.dictionary,
            columns={k: v.take(pa.array(order)) for k, v in columns.items()},
            offsets=offsets,
            features=[
                batch.column(batch.schema.get_field_index(name)).take(
                    first_rows
                )
                for name in self._user_features
            ],
        )
        return list(zip(users.dictionary.to_pylist(), episodes, strict=True))

    def merge(self, chunks: Sequence[bytes]) -> bytes:
        """Makes one episode of a user's chunks.

        Args:
            chunks: Episodes of the same user, no event in two of them.

        Returns:
            The serialized episode with all events in order.
        """
        if len(chunks) == 1:
            return chunks[0]
        batch = self._decoder.DecodeBatch(chunks)
        values = {
            name: batch.column(batch.schema.get_field_index(name))
            for name in batch.schema.names
        }
        columns = {name: values[name].flatten() for name in ROW_COLUMNS}
        order = _event_order(columns, np.zeros(len(columns["label"]), int))
        [episode] = self._encode(
            user_ids=values["user_id"].flatten().slice(0, 1),
            columns={k: v.take(pa.array(order)) for k, v in columns.items()},
            offsets=np.array([0, len(order)]),
            features=[values[name].slice(0, 1) for name in self._user_features],
        )
        return episode

    def _encode(
        self,
        user_ids: pa.Array,
        columns: dict[str, pa.Array],
        offsets: np.ndarray,
        features: list[pa.Array],
    ) -> list[bytes]:
        """Writes one Example per user.

        Args:
            user_ids: Ids of U users.
            columns: Values of all rows, user after user.
            offsets: int64 [U + 1], where the rows of each user begin and end.
            features: Per feature a list array of length U.
        """
        arrays = [
            _lists(np.arange(len(user_ids) + 1), user_ids),
            *(_lists(offsets, columns[name]) for name in ROW_COLUMNS),
            *features,
        ]
        names = ["user_id", *ROW_COLUMNS, *self._user_features]
        return self._encoder.encode(
            pa.RecordBatch.from_arrays(arrays, names=names)
        )


def _lists(offsets: np.ndarray, values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, type=pa.int64()), values
    )


def _one_per_row(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Flattens a column that must hold one value in each row."""
    lists = batch.column(batch.schema.get_field_index(name))
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    wrong = np.flatnonzero(lengths != 1)
    if wrong.size:
        raise EpisodeError(
            f"Column {name!r} of the transformed examples holds "
            f"{lengths[wrong[0]]} values in {wrong.size} of {len(lengths)} "
            "rows of a batch, where each must hold one. Check the "
            "preprocessing_fn, which must pass it through."
        )
    return lists.flatten()


def _event_order(columns: dict[str, pa.Array], users: np.ndarray) -> np.ndarray:
    """Sorts rows by user, then in the order the user's events happened.

    Negatives of an implicit event share its position and come after it; among
    themselves they are ordered by item id, so that the order depends on
    nothing but the rows.
    """
    items = columns["item_id"].dictionary_encode()
    by_id = np.argsort(items.dictionary.to_numpy(zero_copy_only=False))
    rank = np.empty_like(by_id)
    rank[by_id] = np.arange(len(by_id))
    return np.lexsort(
        (
            rank[items.indices.to_numpy()],
            -columns["label"].to_numpy(),
            columns["position"].to_numpy(),
            users,
        )
    )
