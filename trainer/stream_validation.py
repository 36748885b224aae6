"""The protocol's stream on meta_valid users, inside the trainer.

Training looks at it to know when to stop, the tuner to choose.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract import metrics
from trainer.episodes import Catalog
from trainer.errors import EpisodeDataError
from trainer.features import FeatureSpace
from trainer.stream import JudgedRows, StreamUsers, stream_steps
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
        users = StreamUsers.read(episodes, space, max_users)
        if not len(users):
            raise EpisodeDataError(
                "meta_valid holds no user, so training can't be judged. Users "
                "with fewer than 30 events are never judged: does the log "
                "hold enough users and events?"
            )
        self._user_ids = users.ids
        self._steps = stream_steps(users)
        if len(self._steps) == 1:
            raise EpisodeDataError(
                "No meta_valid user has an event after its first support set, "
                "so training can't be judged. Give users with more events."
            )
        self._judged = JudgedRows([step.judged for step in self._steps[1:]])

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
        rows = self._judged.rows
        judged = {n: self._judged.flat(s) for n, s in scores.items()}
        return StreamFigures(
            auc={n: metrics.auc(rows.label, s) for n, s in judged.items()},
            wgauc={
                n: metrics.wgauc(rows.label, s, rows.group)
                for n, s in judged.items()
            },
        )
