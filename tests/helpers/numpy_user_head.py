"""What a user's adaptive weights do, again, in NumPy and float64.

Written from the formulas in the docstring of `trainer.user_head`, one user at
a time and one preset after the other, with weights cut by hand.
"""

import dataclasses
from typing import Any

import numpy as np

from tests.helpers.numpy_targets import targets
from trainer.low_rank_adapter import LowRankAdapter

Array = np.ndarray


@dataclasses.dataclass
class NumpyUser:
    """One user as the user tower sees it, and the tower's own layers.

    Attributes:
        vector: [D].
        bias: [1].
        hidden: [H].
        features: [F].
        layers: Kernel and bias of the hidden layer, kernel and bias of the
            output layer.
        down: Fixed half of the low-rank adapter, [H, rank].
        up: The other half, [rank, D + 1].
        preset: Name of the partition preset.
    """

    vector: Array
    bias: Array
    hidden: Array
    features: Array
    layers: list[Array]
    down: Array | None
    up: Array | None
    preset: str

    @classmethod
    def all_of(cls, model: Any, user: Any, preset: str) -> "list[NumpyUser]":
        """Users as a `PartitionedTwoTower` embedded them."""

        def copy(tensor: Any) -> Array:
            return np.array(tensor, np.float64)

        halves = [None, None]
        for layer in model.user_head.submodules:
            if isinstance(layer, LowRankAdapter):
                halves = [copy(layer.down.kernel), copy(layer.up.kernel)]
        layers = [copy(v) for v in model.user_tower.weights[-4:]]
        return [
            cls(*row, layers, *halves, preset)
            for row in zip(
                *(copy(t) for t in (user.vector, user.bias)),
                *(copy(t) for t in (user.hidden, user.features)),
                strict=True,
            )
        ]

    def own(self, w: Array) -> Array:
        """The user's own vector and bias, [D + 1]."""
        d, h, f = len(self.vector), len(self.hidden), len(self.features)
        plain = np.concatenate([self.vector, self.bias])

        def dense(inputs: Array, flat: Array, units: int) -> Array:
            kernel, bias = flat[:-units], flat[-units:]
            return inputs @ kernel.reshape(len(inputs), units) + bias

        if self.preset == "user_bias":
            return np.append(self.vector, self.bias + w[0])
        if self.preset == "low_rank":
            change = (self.hidden @ self.down * w[1:]) @ self.up
            return plain + change + np.append(np.zeros(d), w[0])
        if self.preset == "interaction_head":
            return np.append(self.vector * w[:d], self.bias + w[d])
        if self.preset == "user_offset":
            return np.append(self.vector + w[1:], self.bias + w[0])
        if self.preset == "user_scale":
            vector = self.vector * w[1 + d :] + w[1 : 1 + d]
            return np.append(vector, self.bias + w[0])
        if self.preset == "user_output":
            return plain + dense(self.hidden, w, d + 1)
        if self.preset == "learned":
            scale, c, output = np.split(w, [d, len(w) - (h + 1) * (d + 1)])
            change = (self.hidden @ self.down * c) @ self.up
            scaled = np.append(self.vector * scale, self.bias)
            return scaled + change + dense(self.hidden, output, d + 1)
        assert self.preset == "user_tower"
        output, hidden, offset = np.split(w, [(h + 1) * (d + 1), len(w) - f])
        seen = self.features + offset
        kernel, bias, out_kernel, out_bias = self.layers
        own_hidden = np.maximum(
            seen @ kernel + bias + dense(seen, hidden, h), 0.0
        )
        return (
            own_hidden @ out_kernel
            + out_bias
            + dense(own_hidden, output, d + 1)
        )

    def jacobian(self, w: Array) -> Array:
        """Of `own` by the weights, [D + 1, P], by central differences.

        Exact but for rounding where `own` is affine.
        """
        step = 1e-5 if self.preset == "user_tower" else 1.0
        columns = []
        for p in range(len(w)):
            away = np.zeros(len(w))
            away[p] = step
            columns.append(self.own(w + away) - self.own(w - away))
        return np.stack(columns, axis=1) / (2 * step)


@dataclasses.dataclass
class NumpySupport:
    """One user's support set: events [S, D + 1] end with a 1.

    Attributes:
        events: Item vectors and a 1 each.
        item_bias: [S].
        taste: What the own vector is drawn to, [S].
        liked: What the own bias is drawn to, [S].
        weight: [S].
    """

    events: Array
    item_bias: Array
    taste: Array
    liked: Array
    weight: Array

    def loss(self, own: Array) -> float:
        """Summed weighted logistic loss, but for a constant."""
        logits = self.events @ own + self.item_bias
        by_vector = self.events[:, :-1] @ own[:-1]
        drawn = self.taste * by_vector + self.liked * own[-1]
        return float(self.weight @ (np.logaddexp(0, logits) - drawn))

    def gradient(self, own: Array) -> Array:
        """Of the loss by the own vector and bias."""
        logits = self.events @ own + self.item_bias
        probability = 1 / (1 + np.exp(-logits))
        by_vector = self.weight * (probability - self.taste)
        by_bias = self.weight * (probability - self.liked)
        return np.append(by_vector @ self.events[:, :-1], by_bias.sum())


def all_supports(
    solver: Any, item: Any, label: Any, weight: Any
) -> list[NumpySupport]:
    """Support sets of embedded items [B, S, ...], as a solver reads labels."""
    vector, bias, label, weight, taste_shift, liked_shift = (
        np.array(t, np.float64)
        for t in (
            *(item.vector, item.bias, label, weight),
            *(solver.taste_shift, solver.liked_shift),
        )
    )
    taste, liked = targets(label, taste_shift, liked_shift)
    events = np.concatenate([vector, np.ones_like(bias)], axis=-1)
    return [
        NumpySupport(*row)
        for row in zip(events, bias[..., 0], taste, liked, weight, strict=True)
    ]
