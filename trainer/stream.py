"""The protocol's cuts of cold users' rows, ready to be scored in batches.

The rows, the windows and the support sets are those of `serving.contract`, so
figures mean the same as the evaluator's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.features import ITEM_ROW
from serving.contract.intervals import Rows
from serving.contract.labels import liked
from serving.contract.protocol import (
    MAX_WINDOWS,
    few_shot_rows,
    first_support_rows,
    stream_windows,
)
from serving.contract.support import (
    RESERVOIR_EVENTS,
    SupportEvent,
    merge_support,
)
from trainer.episodes import LABEL, POSITION, user_ids
from trainer.features import FeatureSpace
from trainer.tasks import LabelledRows


@dataclasses.dataclass(frozen=True)
class StreamUsers:
    """Users with their rows.

    Attributes:
        ids: What the user tower takes, int64 [users, L] by name.
        item_row: Catalog rows of each user's rows, in order.
        label: Of each row, from 0 to 1.
        position: Place of each row's event in its user's order.
    """

    ids: Mapping[str, tf.Tensor]
    item_row: Sequence[NDArray[np.int32]]
    label: Sequence[NDArray[np.float32]]
    position: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.item_row)

    @classmethod
    def read(
        cls, episodes: tf.data.Dataset, space: FeatureSpace, max_users: int
    ) -> "StreamUsers":
        """Takes the first users of what `read_episodes` gives."""
        batch = next(iter(episodes.ragged_batch(max_users)), None)
        if batch is None:
            return cls({}, (), (), ())

        def by_user(name: str, dtype: type) -> list[NDArray]:
            rows = batch[name]
            return np.split(
                rows.values.numpy().astype(dtype), rows.row_splits[1:-1]
            )

        return cls(
            ids=user_ids(batch, space),
            item_row=by_user(ITEM_ROW, np.int32),
            label=by_user(LABEL, np.float32),
            position=by_user(POSITION, np.int64),
        )

    def take(self, users: NDArray[np.integer]) -> "StreamUsers":
        """The users with these indices, in this order."""
        return StreamUsers(
            {name: tf.gather(ids, users) for name, ids in self.ids.items()},
            *(
                [values[user] for user in users]
                for values in (self.item_row, self.label, self.position)
            ),
        )


class StreamStep(NamedTuple):
    """One step for all users: judge, then learn.

    Attributes:
        judged: Rows that are scored with what is known before them.
        support: What is learned from afterwards: these rows as new events,
            together with the reservoir of earlier ones.
    """

    judged: LabelledRows
    support: LabelledRows


def stream_steps(users: StreamUsers) -> list[StreamStep]:
    """Cuts the stream: step 0 is the first support set, then the windows.

    Nobody judges the rows of step 0. Steps after the last window that any
    user has are left out.
    """
    num_steps = MAX_WINDOWS + 1
    judged: list[list[_UserRows]] = [[] for _ in range(num_steps)]
    support: list[list[_UserRows]] = [[] for _ in range(num_steps)]
    for items, labels, position in zip(
        users.item_row, users.label, users.position, strict=True
    ):
        chunks = {0: first_support_rows(position)}
        chunks |= {w.number + 1: w.rows for w in stream_windows(position)}
        reservoir: Sequence[SupportEvent] = ()
        count = 0
        for index in range(num_steps):
            rows = chunks.get(index, np.empty(0, np.int64))
            judged[index].append(
                [(items[row], labels[row], 1.0) for row in rows]
            )
            merged = merge_support(
                reservoir,
                [SupportEvent(str(items[r]), labels[r]) for r in rows],
                count,
                RESERVOIR_EVENTS,
            )
            reservoir, count = merged.reservoir, merged.count
            support[index].append(
                [
                    (int(event.item_id), event.label, 1.0)
                    for event in merged.events
                ]
            )
    return [
        StreamStep(_padded(j), _padded(s))
        for j, s in zip(judged, support, strict=True)
        if any(j)
    ]


def few_shot_step(users: StreamUsers, support_size: int) -> StreamStep:
    """Cuts support sets of k events and the query sets, which are judged."""
    support: list[_UserRows] = []
    judged: list[_UserRows] = []
    for items, labels, position in zip(
        users.item_row, users.label, users.position, strict=True
    ):
        for rows, chosen in zip(
            (support, judged),
            few_shot_rows(position, support_size),
            strict=True,
        ):
            rows.append([(items[row], labels[row], 1.0) for row in chosen])
    return StreamStep(judged=_padded(judged), support=_padded(support))


class JudgedRows:
    """The judged rows of some steps as flat arrays: step, user, place."""

    def __init__(self, judged: Sequence[LabelledRows]) -> None:
        """Takes the judged rows of each step, [users, N] each."""
        self._places = [np.nonzero(rows.weight) for rows in judged]
        users = [user for user, _ in self._places]
        self.rows = Rows(
            user=np.concatenate(users),
            window=np.repeat(np.arange(len(users)), [len(u) for u in users]),
            label=liked(self.flat([rows.label for rows in judged])),
        )

    def flat(
        self, by_step: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Picks the rows that count of arrays [users, N], one per step."""
        return np.concatenate(
            [
                values[place]
                for values, place in zip(by_step, self._places, strict=True)
            ]
        )


_UserRows = list[tuple[int, float, float]]


def _padded(users: Sequence[_UserRows]) -> LabelledRows:
    width = max(map(len, users))
    columns = np.zeros([3, len(users), width], np.float64)
    for index, rows in enumerate(users):
        if rows:
            columns[:, index, : len(rows)] = np.asarray(rows).T
    item_row, label, weight = columns
    return LabelledRows(
        item_row.astype(np.int32),
        label.astype(np.float32),
        weight.astype(np.float32),
    )
