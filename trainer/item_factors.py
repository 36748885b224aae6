"""Item vectors from all of meta_train at once: where the outer loop starts.

A task shows the outer loop a piece of one user's history. Where scores are
linear in few adaptive weights and errors are Gaussian, what it looks for can be
computed from all histories instead, by an expectation-maximization algorithm
whose steps are the two loops in closed form:

    target of (u, i) = b_u + m_i + w_i' z_u + error,    error ~ N(0, s2)
    z_u ~ N(0, 1),  b_u ~ N(0, sb2),  w_i,k ~ N(0, sw2_k),  m_i ~ N(mean, sm2)

    E: each user's posterior of its adaptive weights (b, z), given the items
    M: each item's posterior of its fixed parameters (w, m), given the users

Both keep their covariances, so a user with few events or an item that few have
seen counts as little as it should (variational Bayes: Lim and Teh, KDD Cup and
Workshop 2007), and the variances are estimated: there is nothing to tune. That
meta-learning is such a hierarchical model: Grant et al., arXiv 1801.08930.

Targets are the inner loop's (`trainer.graded_labels`), about 0 to 1. Logits l
near the mean target p change by  kappa = 1 / (p (1 - p))  as much, and one
event of the logistic loss tells 1 / kappa of l. Vectors  sqrt(kappa / s2) w
therefore have with a prior precision of 1, where the inner loop starts, the
posterior that w has here.
"""

import dataclasses
import time

import numpy as np
import scipy.sparse
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.features import ITEM_INDEX, ITEM_ROW
from trainer.config import TrainerConfig
from trainer.episodes import LABEL, Catalog
from trainer.graded_labels import Degrees
from trainer.progress import PROGRESS

# Of item-id embeddings that start at random.
ID_STDDEV = 0.05
# Users, or items, at a time.
_PER_BLOCK = 4096
# Standard deviations to start from, on the scale of targets.
_USER_BIAS, _ITEM_MEAN, _WEIGHT = 0.1, 0.1, 0.05
# No variance falls below this: targets that are all the same have none.
_LEAST_VARIANCE = 1e-6
# Mean targets are taken to lie this far from 0 and 1.
_MARGIN = 0.01

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ItemFactors:
    """What item ids add to the item tower's output.

    Attributes:
        vector: By item index, float [items, vector_size].
        bias: In logits, float [items].
    """

    vector: Array
    bias: Array

    def table(self) -> Array:
        """Vectors and biases as one embedding table, [items, size + 1]."""
        return np.concatenate([self.vector, self.bias[:, np.newaxis]], axis=1)

    def with_random_vectors(self, seed: int) -> "ItemFactors":
        """The same biases, with vectors as those of a random start."""
        random = np.random.default_rng(seed)
        vector = random.normal(0.0, ID_STDDEV, self.vector.shape)
        return dataclasses.replace(self, vector=vector)


@dataclasses.dataclass(frozen=True)
class Targets:
    """All rows of some users, summed by user and item.

    Attributes:
        count: Rows of each pair, [users, items].
        total: Sum of their targets.
        squares: Sum of all targets' squares.
    """

    count: scipy.sparse.csr_matrix
    total: scipy.sparse.csr_matrix
    squares: float

    @classmethod
    def read(
        cls,
        episodes: tf.data.Dataset,
        catalog: Catalog,
        num_items: int,
        config: TrainerConfig,
        degrees: Degrees,
    ) -> "Targets":
        """Takes all rows of what `read_episodes` gives.

        Users count alike, however often a mix of logs draws them.

        Args:
            episodes: meta_train.
            catalog: Items; rows of it are what episodes hold.
            num_items: Item indices there are, the unknown item's with them.
            config: `predict_degree`.
            degrees: What degrees of labels count as.
        """
        index_of_row = catalog.ids[ITEM_INDEX].numpy()[:, 0]
        items, labels, lengths = [], [], []
        for batch in episodes.ragged_batch(_PER_BLOCK):
            items.append(index_of_row[batch[ITEM_ROW].values.numpy()])
            labels.append(batch[LABEL].values.numpy())
            lengths.append(batch[LABEL].row_lengths().numpy())
        label = tf.concat([*labels, tf.zeros([0])], axis=0)
        target = label if config.predict_degree else degrees.taste(label)
        length = np.concatenate([*lengths, []]).astype(np.int64)
        return cls.of(
            np.repeat(np.arange(len(length)), length),
            np.concatenate([*items, []]).astype(np.int64),
            target.numpy().astype(np.float64),
            (len(length), num_items),
        )

    @classmethod
    def of(
        cls,
        user: NDArray[np.int64],
        item: NDArray[np.int64],
        target: Array,
        shape: tuple[int, int],
    ) -> "Targets":
        """Sums rows up; `shape` is users, items."""

        def summed(values: Array) -> scipy.sparse.csr_matrix:
            return scipy.sparse.csr_matrix((values, (user, item)), shape)

        return cls(
            summed(np.ones_like(target)),
            summed(target),
            float(np.square(target).sum()),
        )


def item_factors(
    targets: Targets, size: int, rounds: int, seed: int
) -> ItemFactors:
    """Estimates item vectors and biases.

    Args:
        targets: What is learned from.
        size: Length of the vectors.
        rounds: E and M steps. Each takes some (size + 1)^2 multiplications per
            row, and all of it 24 (size + 1)^2 bytes per item.
        seed: Of the vectors to start from.

    Returns:
        Of all items; one without rows has a vector of 0 and the mean bias.
    """
    start = time.monotonic()
    model = _Model(targets, size, seed)
    for done in range(1, rounds + 1):
        model.improve()
        PROGRESS.info(
            "item vectors: round %d of %d  %.1f s each",
            done,
            rounds,
            (time.monotonic() - start) / done,
        )
    return model.in_logits()


class _Model:
    """The hierarchical model; `x` is (w, m) of an item, `y` is (b, z)."""

    def __init__(self, targets: Targets, size: int, seed: int) -> None:
        self._targets = targets
        self._size = size
        self._rows = max(targets.count.sum(), 1.0)
        self._mean = targets.total.sum() / self._rows
        self._known = np.asarray(targets.count.sum(axis=0)).ravel() > 0
        items = targets.count.shape[1]
        random = np.random.default_rng(seed)
        self.x = np.full([items, size + 1], self._mean)
        self.x[:, :size] = random.normal(0.0, _WEIGHT, [items, size])
        self.x_covariance = np.zeros([items, size + 1, size + 1])
        self._x_mean = np.append(np.zeros(size), self._mean)
        self._x_variance = np.append(
            np.full(size, np.square(_WEIGHT)), np.square(_ITEM_MEAN)
        )
        self._bias_variance = np.square(_USER_BIAS)
        self.noise = _at_least(
            targets.squares / self._rows - np.square(self._mean)
        )

    def improve(self) -> None:
        """One E step for all users, block by block, and one M step."""
        size, items = self._size, len(self.x)
        # Of each item, sums over its rows: of h h' and of h (target - b), with
        # h = (z, 1).
        squared = np.zeros([items, (size + 1) ** 2])
        linear = np.zeros([items, size + 1])
        error = self._targets.squares
        bias_squared = 0.0
        users = self._targets.count.shape[0]
        moments = self._item_moments()
        for first in range(0, users, _PER_BLOCK):
            block = slice(first, first + _PER_BLOCK)
            count = self._targets.count[block]
            total = self._targets.total[block]
            y, covariance = self._users(count, total, *moments)
            moment = _outer(y) + covariance
            h = np.concatenate([y[:, 1:], np.ones_like(y[:, :1])], axis=1)
            h_squared = _outer(h)
            h_squared[:, :size, :size] += covariance[:, 1:, 1:]
            h_bias = np.concatenate([moment[:, 0, 1:], y[:, :1]], axis=1)
            squared += count.T @ h_squared.reshape(len(y), -1)
            linear += total.T @ h - count.T @ h_bias
            error += (count.sum(axis=1).A1 * moment[:, 0, 0]).sum()
            error -= 2.0 * (total.sum(axis=1).A1 * y[:, 0]).sum()
            bias_squared += moment[:, 0, 0].sum()
        self._update_items(squared.reshape(-1, size + 1, size + 1), linear)
        error += self._error_of_items(squared, linear)
        self.noise = _at_least(error / self._rows)
        self._bias_variance = _at_least(bias_squared / max(users, 1))

    def _item_moments(self) -> tuple[Array, Array, Array]:
        """Of a = (1, w): means, and expected a a' (flat) and a m."""
        size = self._size
        w, mean = self.x[:, :size], self.x[:, size]
        a = np.concatenate([np.ones_like(w[:, :1]), w], axis=1)
        a_squared = _outer(a)
        a_squared[:, 1:, 1:] += self.x_covariance[:, :size, :size]
        a_mean = a * mean[:, np.newaxis]
        a_mean[:, 1:] += self.x_covariance[:, :size, size]
        return a, a_squared.reshape(len(a), -1), a_mean

    def _users(
        self,
        count: scipy.sparse.csr_matrix,
        total: scipy.sparse.csr_matrix,
        a: Array,
        a_squared: Array,
        a_mean: Array,
    ) -> tuple[Array, Array]:
        """The E step: means [users, size + 1] of y, and covariances."""
        size = self._size
        precision = (count @ a_squared) / self.noise
        precision = precision.reshape(-1, size + 1, size + 1)
        prior = np.append(1.0 / self._bias_variance, np.ones(size))
        covariance = np.linalg.inv(precision + np.diag(prior))
        told = (total @ a - count @ a_mean) / self.noise
        return _matvec(covariance, told), covariance

    def in_logits(self) -> ItemFactors:
        """The items as the item tower has them."""
        p = np.clip(self._mean, _MARGIN, 1.0 - _MARGIN)
        kappa = 1.0 / (p * (1.0 - p))
        w, mean = self.x[:, : self._size], self.x[:, self._size]
        scale = np.where(self._known, np.sqrt(kappa / self.noise), 0.0)
        return ItemFactors(
            vector=w * scale[:, np.newaxis],
            bias=np.log(p / (1.0 - p)) + kappa * (mean - self._mean),
        )

    def _update_items(self, squared: Array, linear: Array) -> None:
        """The M step, and the variances of what it found."""
        prior = 1.0 / self._x_variance
        told = linear / self.noise + prior * self._x_mean
        for first in range(0, len(self.x), _PER_BLOCK):
            block = slice(first, first + _PER_BLOCK)
            self.x_covariance[block] = np.linalg.inv(
                squared[block] / self.noise + np.diag(prior)
            )
        self.x = _matvec(self.x_covariance, told)
        if self._known.any():
            away = np.square(self.x - self._x_mean)
            spread = np.einsum("nkk->nk", self.x_covariance)
            self._x_variance = _at_least(
                (away + spread)[self._known].mean(axis=0)
            )

    def _error_of_items(self, squared: Array, linear: Array) -> float:
        """What the new items bring to the rows' expected squared error."""
        error = -2.0 * (self.x * linear).sum()
        for first in range(0, len(self.x), _PER_BLOCK):
            block = slice(first, first + _PER_BLOCK)
            moment = _outer(self.x[block]) + self.x_covariance[block]
            error += (squared[block] * moment.reshape(len(moment), -1)).sum()
        return float(error)


def _outer(rows: Array) -> Array:
    return rows[:, :, np.newaxis] * rows[:, np.newaxis, :]


def _matvec(matrices: Array, rows: Array) -> Array:
    product: Array = np.einsum("nij,nj->ni", matrices, rows)
    return product


def _at_least(variance: Array | float) -> Array:
    floored: Array = np.maximum(variance, _LEAST_VARIANCE)
    return floored
