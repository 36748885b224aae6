"""The protocol's stream on meta_valid users, inside the trainer.

Training looks at it to know when to stop, the tuner to choose. The rows, the
windows and the support sets are those of `serving.contract`, so the figures
mean the same as the evaluator's; only the users differ.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract import metrics
from serving.contract.protocol import (
    MAX_WINDOWS,
    first_support_rows,
    stream_windows,
)
from serving.contract.support import (
    RESERVOIR_EVENTS,
    SupportEvent,
    merge_support,
)
from trainer.episodes import (
    ITEM_ROW,
    LABEL,
    POSITION,
    Catalog,
    user_ids,
)
from trainer.errors import EpisodeDataError
from trainer.features import FeatureSpace
from trainer.tasks import LabelledRows
from trainer.two_tower import PartitionedTwoTower

ZERO_SHOT = "joint"
OFFLINE = "offline"
ONLINE = "online"


@dataclasses.dataclass(frozen=True)
class StreamFigures:
    """AUC and wGAUC by how users are scored.

    Attributes:
        auc: By `joint` (features alone), `offline` and `online`.
        wgauc: The same.
    """

    auc: dict[str, float]
    wgauc: dict[str, float]

    def __str__(self) -> str:
        return "  ".join(
            f"{name} {self.auc[name]:.4f}/{self.wgauc[name]:.4f}"
            for name in self.auc
        )


class _Step(NamedTuple):
    """One step of the stream for all users: judge, then learn."""

    judged: LabelledRows
    support: LabelledRows


class StreamValidation:
    """The stream of a fixed set of users, ready to be scored again."""

    def __init__(
        self,
        model: PartitionedTwoTower,
        episodes: tf.data.Dataset,
        space: FeatureSpace,
        catalog: Catalog,
        max_users: int,
    ) -> None:
        """Cuts the users' windows and support sets once.

        Args:
            model: The model to be judged.
            episodes: What `read_episodes` gives, of meta_valid.
            space: Features of users.
            catalog: Items.
            max_users: Users taken at most, the first ones.

        Raises:
            EpisodeDataError: There is no user, or none to be judged.
        """
        self._model = model
        self._catalog_ids = catalog.ids
        batch = next(iter(episodes.ragged_batch(max_users)), None)
        if batch is None:
            raise EpisodeDataError(
                "meta_valid holds no user, so training can't be judged. Users "
                "with fewer than 30 events are never judged: does the log "
                "hold enough users and events?"
            )
        self._user_ids = user_ids(batch, space)
        self._steps = _steps(
            batch[ITEM_ROW].to_list(),
            batch[LABEL].to_list(),
            [np.asarray(p) for p in batch[POSITION].to_list()],
        )
        if len(self._steps) == 1:
            raise EpisodeDataError(
                "No meta_valid user has an event after its first support set, "
                "so training can't be judged. Give users with more events."
            )
        users, places = zip(
            *(np.nonzero(step.judged.weight) for step in self._steps[1:]),
            strict=True,
        )
        self._places = list(zip(users, places, strict=True))
        self._rows = metrics.Rows(
            user=np.concatenate(users),
            window=np.repeat(np.arange(len(users)), [len(u) for u in users]),
            label=self._judged([step.judged.label for step in self._steps[1:]]),
        )

    def evaluate(self) -> StreamFigures:
        """Scores the stream with the model as it is now."""
        user = self._model.user_tower(self._user_ids)
        items = self._model.item_tower(self._catalog_ids)
        initial = self._model.initial_weights(tf.shape(user.bias)[0])
        weights = dict.fromkeys((ZERO_SHOT, OFFLINE, ONLINE), initial)
        scores: dict[str, list[NDArray[np.float32]]] = {n: [] for n in weights}
        for index, step in enumerate(self._steps):
            if index > 0:
                candidates = items.gather(step.judged.item_row)
                for name, current in weights.items():
                    logits = self._model.score(user, candidates, current)
                    scores[name].append(logits.numpy())
            learned = self._model.adapt(
                user,
                items.gather(step.support.item_row),
                step.support.label,
                step.support.weight,
                weights[ONLINE],
            )
            weights[ONLINE] = learned
            if index == 0:
                weights[OFFLINE] = learned
        rows = self._rows
        judged = {n: self._judged(s) for n, s in scores.items()}
        return StreamFigures(
            auc={n: metrics.auc(rows.label, s) for n, s in judged.items()},
            wgauc={
                n: metrics.wgauc(rows.label, s, rows.group)
                for n, s in judged.items()
            },
        )

    def _judged(
        self, by_window: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Picks the rows that count of arrays [users, N], one per window."""
        return np.concatenate(
            [
                values[place]
                for values, place in zip(by_window, self._places, strict=True)
            ]
        )


def _steps(
    item_rows: Sequence[Sequence[int]],
    labels: Sequence[Sequence[float]],
    positions: Sequence[NDArray[np.int64]],
) -> list[_Step]:
    """Step 0 is the first support set; then one step per window."""
    num_steps = MAX_WINDOWS + 1
    judged: list[list[_UserRows]] = [[] for _ in range(num_steps)]
    support: list[list[_UserRows]] = [[] for _ in range(num_steps)]
    for items, user_labels, position in zip(
        item_rows, labels, positions, strict=True
    ):
        chunks = {0: first_support_rows(position)}
        chunks |= {w.number + 1: w.rows for w in stream_windows(position)}
        reservoir: Sequence[SupportEvent] = ()
        count = 0
        for index in range(num_steps):
            rows = chunks.get(index, np.empty(0, np.int64))
            judged[index].append(
                [(items[row], user_labels[row], 1.0) for row in rows]
            )
            merged = merge_support(
                reservoir,
                [SupportEvent(str(items[r]), user_labels[r]) for r in rows],
                count,
                RESERVOIR_EVENTS,
            )
            reservoir, count = merged.reservoir, merged.count
            support[index].append(
                [
                    (int(event.item_id), event.label, weight)
                    for event, weight in zip(
                        merged.events, merged.weights, strict=True
                    )
                ]
            )
    return [
        _Step(_padded(j), _padded(s))
        for j, s in zip(judged, support, strict=True)
        if any(j)
    ]


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
