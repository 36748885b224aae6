"""The adaptive layers on the user side, and what each preset is made of.

A user's own vector and bias are

    vector = scale * user vector + output(hidden) + adapter(hidden) + offset
    bias   = user bias + output(hidden) + adapter(hidden) + bias

where user vector, user bias and hidden are the user tower's; a preset has some
of the terms (`PRESETS`). Each is affine in its weights and no two of them are
multiplied with each other, so the score is affine in all adaptive weights
together. The exception is preset `user_tower`, where the user tower's hidden
layer and what it sees adapt as well.

The item side never adapts, and the score stays linear in the item vector: one
retrieval index serves all users.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import config as presets
from trainer.adaptive_layers import (
    AdaptiveBias,
    AdaptiveDense,
    AdaptiveLayer,
    AdaptiveScale,
)
from trainer.config import TrainerConfig
from trainer.embedded import Embedded, EmbeddedUser
from trainer.errors import PartitionError
from trainer.low_rank_adapter import LowRankAdapter
from trainer.partition import BYTES_PER_VALUE
from trainer.towers import UserTower

BIAS = "user_bias"
OFFSET = "user_offset"
SCALE = "user_scale"
INTERACTION = "interaction_head"
ADAPTER = "low_rank"
OUTPUT = "user_output"
# These two belong together.
HIDDEN = "user_hidden"
FEATURES = "user_features"

# The layers of each preset, in the order of the flat weights.
PRESETS: Mapping[str, tuple[str, ...]] = {
    presets.USER_BIAS: (BIAS,),
    presets.LOW_RANK: (BIAS, ADAPTER),
    presets.INTERACTION_HEAD: (INTERACTION,),
    presets.USER_OFFSET: (BIAS, OFFSET),
    presets.USER_SCALE: (BIAS, OFFSET, SCALE),
    presets.USER_OUTPUT: (OUTPUT,),
    presets.USER_TOWER: (OUTPUT, HIDDEN, FEATURES),
    presets.LEARNED: (SCALE, ADAPTER, OUTPUT),
}

Weights = Mapping[str, tf.Tensor]


class UserHead(tf_keras.layers.Layer):
    """Makes the user's own vector and bias of the user tower's."""

    def __init__(
        self, tower: UserTower, config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Makes the layers of `config.partition`.

        Raises:
            PartitionError: They need more than `config.max_bytes_per_user`.
        """
        super().__init__(name="user_head", **kwargs)
        check_budget(tower, config)
        self._tower = tower
        self._size = config.vector_size
        self._parts = {
            part: _make(part, tower, config)
            for part in _parts(config.partition, tower)
        }

    @property
    def adaptive_layers(self) -> list[AdaptiveLayer]:
        """The adaptive layers in the order of the flat weights."""
        return [
            part.coefficients if isinstance(part, LowRankAdapter) else part
            for part in self._parts.values()
        ]

    def call(self, user: EmbeddedUser, weights: Weights) -> Embedded:
        """Personalizes.

        Args:
            user: Users as the user tower embeds them, [B, ...].
            weights: Adaptive weights by parameter name, float [B, ...]; the
                meta-initialization where one is missing.

        Returns:
            The users' own vectors and biases.
        """
        if HIDDEN in self._parts:
            user = self._with_own_hidden_layer(user, weights)
        vector, bias = user.vector, user.bias
        if SCALE in self._parts:
            vector = self._parts[SCALE](vector, weights.get(SCALE))
        if INTERACTION in self._parts:
            # A linear layer on user vector * item vector, by whichever of the
            # factors its kernel is multiplied into.
            layer = self._parts[INTERACTION]
            kernel = weights.get(f"{INTERACTION}/kernel")
            kernel = layer.kernel[tf.newaxis] if kernel is None else kernel
            own_bias = weights.get(f"{INTERACTION}/bias")
            vector *= tf.squeeze(kernel, axis=-1)
            bias += layer.bias if own_bias is None else own_bias
        if OUTPUT in self._parts:
            output = self._dense(OUTPUT, user.hidden, weights)
            vector += output[:, : self._size]
            bias += output[:, self._size :]
        if ADAPTER in self._parts:
            output = self._parts[ADAPTER](user.hidden, weights.get(ADAPTER))
            vector += output[:, : self._size]
            bias += output[:, self._size :]
        if OFFSET in self._parts:
            vector = self._parts[OFFSET](vector, weights.get(OFFSET))
        if BIAS in self._parts:
            bias = self._parts[BIAS](bias, weights.get(BIAS))
        return Embedded(vector, bias)

    def _with_own_hidden_layer(
        self, user: EmbeddedUser, weights: Weights
    ) -> EmbeddedUser:
        features = self._parts[FEATURES](user.features, weights.get(FEATURES))
        change = self._dense(HIDDEN, features, weights)
        return self._tower.with_change(user, features, change)

    def _dense(
        self, part: str, inputs: tf.Tensor, weights: Weights
    ) -> tf.Tensor:
        kernel, bias = f"{part}/kernel", f"{part}/bias"
        return self._parts[part](inputs, weights.get(kernel), weights.get(bias))


def bytes_by_preset(tower: UserTower, config: TrainerConfig) -> dict[str, int]:
    """Bytes per user of each preset; of `learned`, before it is reduced."""
    hidden, outputs = tower.hidden_size, config.vector_size + 1
    values = {
        BIAS: 1,
        OFFSET: config.vector_size,
        SCALE: config.vector_size,
        INTERACTION: outputs,
        ADAPTER: config.adapter_rank,
        OUTPUT: (hidden + 1) * outputs,
        HIDDEN: (tower.features_size + 1) * hidden,
        FEATURES: tower.features_size,
    }
    return {
        preset: BYTES_PER_VALUE * sum(values[p] for p in _parts(preset, tower))
        for preset in PRESETS
    }


def check_budget(tower: UserTower, config: TrainerConfig) -> None:
    """Refuses a preset over the budget of bytes per user.

    `learned` is not looked at: it is reduced to the budget after training.

    Raises:
        PartitionError: It says which presets fit.
    """
    budget = config.max_bytes_per_user
    sizes = bytes_by_preset(tower, config)
    needed = sizes.pop(config.partition)
    if not budget or config.partition == presets.LEARNED or needed <= budget:
        return
    fitting = [
        f"{preset} ({size})" for preset, size in sizes.items() if size <= budget
    ] + [f"{presets.LEARNED} (reduced to {budget} after training)"]
    raise PartitionError(
        f"Partition {config.partition!r} needs {needed} bytes per user, the "
        f"budget max_bytes_per_user is {budget}. What fits: "
        f"{', '.join(fitting)}."
    )


def _parts(preset: str, tower: UserTower) -> list[str]:
    """A preset's parts; without user features there is no hidden layer."""
    return [
        part
        for part in PRESETS[preset]
        if tower.features_size or part not in (HIDDEN, FEATURES)
    ]


def _make(
    part: str, tower: UserTower, config: TrainerConfig
) -> tf_keras.layers.Layer:
    size, hidden = config.vector_size, tower.hidden_size
    if part == BIAS:
        return AdaptiveBias(1, part)
    if part == OFFSET:
        return AdaptiveBias(size, part)
    if part == SCALE:
        return AdaptiveScale(size, part)
    if part == INTERACTION:
        return AdaptiveDense(size, 1, part, kernel_initializer="ones")
    if part == ADAPTER:
        return LowRankAdapter(hidden, config.adapter_rank, size + 1, part)
    if part == OUTPUT:
        return AdaptiveDense(hidden, size + 1, part)
    if part == HIDDEN:
        return AdaptiveDense(tower.features_size, hidden, part)
    return AdaptiveBias(tower.features_size, part)
