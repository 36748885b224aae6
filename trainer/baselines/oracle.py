"""`oracle`: the same towers, retrained in batch before every window.

What a full nightly retrain would give: before window w is judged, the judged
users' events before w are rows of the training set like any others. Every
user, of meta_train or judged, has an id embedding (a vector and a bias) beside
its features, which a model without meta-learning needs to know anybody.

The schedule: one training from scratch on meta_train and the first support
sets; then, before each further window, training goes on from the window
before, on all rows known by then, drawn uniformly. Going on instead of
starting anew is what makes it affordable, and such nets are retrained that way
in production. How many steps is a setting, chosen on meta_valid like the rest.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from serving.contract.labels import liked
from trainer.baselines.retrained_two_tower import (
    RetrainedTwoTower,
    RetrainSettings,
)
from trainer.config import TrainerConfig
from trainer.features import PAD
from trainer.stages import StageData
from trainer.stream import StreamStep, StreamUsers
from trainer.tasks import LabelledRows

# All of meta_train lies in memory; more users than this would not fit.
_MAX_USERS = 1_000_000


def oracle_scores(
    data: StageData,
    users: StreamUsers,
    steps: Sequence[StreamStep],
    config: TrainerConfig,
    settings: RetrainSettings,
) -> list[NDArray[np.float32]]:
    """Retrains before each window and scores it.

    Holds all rows of meta_train in memory.

    Args:
        data: meta_train is trained on.
        users: The judged users.
        steps: Their stream, as `stream_steps` gives it.
        config: Architecture, step size, moving average and seed.
        settings: The schedule and the priors.

    Returns:
        Logits [users, N] of each window.
    """
    tf_keras.utils.set_random_seed(config.seed)
    known = StreamUsers.read(data.meta_train, data.space, _MAX_USERS)
    model = RetrainedTwoTower(
        data, _all_ids(known.ids, users.ids), config, settings
    )
    model.compile(
        optimizer=tf_keras.optimizers.Adam(
            config.outer_lr, use_ema=True, ema_momentum=config.ema_momentum
        )
    )
    rows = _Rows.of_users(known)
    judged = np.arange(len(known), len(known) + len(users))
    scores = []
    for index, (step, following) in enumerate(itertools.pairwise(steps)):
        rows = rows.plus(_Rows.of_step(step.judged, judged))
        model.fit(
            rows.batches(settings.batch_rows, config.seed + 1000 * index),
            steps_per_epoch=(
                settings.steps_per_window if index else settings.first_steps
            ),
            verbose=0,
        )
        latest = model.get_weights()
        model.optimizer.finalize_variable_values(model.trainable_variables)
        scores.append(model.score(judged, following.judged.item_row))
        model.set_weights(latest)
    return scores


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows of a training set as flat arrays."""

    user: NDArray[np.int64]
    item: NDArray[np.int32]
    label: NDArray[np.float32]

    @classmethod
    def of_users(cls, users: StreamUsers) -> "_Rows":
        lengths = [len(rows) for rows in users.item_row]
        return cls(
            np.repeat(np.arange(len(users)), lengths),
            np.concatenate(users.item_row),
            liked(np.concatenate(users.label)).astype(np.float32),
        )

    @classmethod
    def of_step(cls, step: LabelledRows, users: NDArray[np.int64]) -> "_Rows":
        user, place = np.nonzero(step.weight)
        return cls(
            users[user],
            step.item_row[user, place],
            liked(step.label[user, place]).astype(np.float32),
        )

    def plus(self, others: "_Rows") -> "_Rows":
        return _Rows(
            *(
                np.concatenate(
                    [getattr(rows, f.name) for rows in (self, others)]
                )
                for f in dataclasses.fields(self)
            )
        )

    def batches(self, size: int, seed: int) -> tf.data.Dataset:
        """Batches of rows drawn uniformly, without end."""
        columns: dict[str, Any] = dataclasses.asdict(self)
        columns = {name: tf.constant(v) for name, v in columns.items()}
        count = len(self.user)

        def draw(step: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.random.stateless_uniform(
                [size], tf.stack([seed, step]), 0, count, tf.int64
            )
            drawn = {n: tf.gather(v, rows) for n, v in columns.items()}
            return drawn | {"known_rows": tf.constant([float(count)])}

        return tf.data.Dataset.counter().map(draw).prefetch(2)


def _all_ids(
    first: Mapping[str, tf.Tensor], second: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Feature ids of two lots of users, one after the other."""

    def widened(ids: tf.Tensor, width: int) -> tf.Tensor:
        missing = width - ids.shape[1]
        return tf.pad(ids, [[0, 0], [0, missing]], constant_values=PAD)

    result = {}
    for name, ids in first.items():
        width = max(ids.shape[1], second[name].shape[1])
        result[name] = tf.concat(
            [widened(ids, width), widened(second[name], width)], axis=0
        )
    return result
