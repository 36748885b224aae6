"""Which adapted weights of a user may be used: the online stage's guard.

Four rules keep a user's events, honest or not, from making weights that serve
the user worse than those of nobody:

- `NOT_FINITE`: weights that are not finite are not used; those that the user
  had before stay.
- `LOSS`: neither are weights under which the events they were learned from are
  less likely than before.
- `NORM`: weights that are far from the meta-initialization, in standard
  deviations of the prior, are pulled back onto the ball.
- `HELD_BACK`: new events judge the weights before these learn from them. If
  the meta-initialization predicts them far better, the weights are not gone on
  from: learning starts over.

Gateway and evaluator both go by them, so that what is measured is what runs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

NOT_FINITE = "not_finite"
LOSS = "loss"
NORM = "norm"
HELD_BACK = "held_back"

# Of a model that does not tell the prior of its inner loop.
_DEFAULT_STD = 1.0


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """How much is let through.

    Attributes:
        max_norm: How far weights may be from the meta-initialization: root
            mean square over the values, in standard deviations of the prior.
        max_loss_rise: By how much the mean loss of the support set may rise
            while the inner loop learns from it, nats.
        min_held_back: So many new events judge the weights before them.
        max_held_back_excess: By how much their mean loss may exceed that
            under the meta-initialization, nats.
    """

    max_norm: float = 6.0
    max_loss_rise: float = 0.05
    min_held_back: int = 4
    max_held_back_excess: float = 1.0


class Adapted(NamedTuple):
    """What the inner loop made of a batch of users.

    Attributes:
        weights: [B, P].
        loss_before: Mean loss of each support set under the weights that the
            user had before, [B].
        loss_after: The same under `weights`.
        event_loss: Loss of each support event under the weights that the
            user had before, [B, S]; None from a model that does not tell.
        event_loss_meta_init: The same under the meta-initialization.
    """

    weights: Floats
    loss_before: Floats
    loss_after: Floats
    event_loss: Floats | None = None
    event_loss_meta_init: Floats | None = None

    def put(self, rows: Ints, others: "Adapted") -> None:
        """Overwrites the weights and mean losses of some users."""
        self.weights[rows] = others.weights
        self.loss_before[rows] = others.loss_before
        self.loss_after[rows] = others.loss_after


class Guarded(NamedTuple):
    """What the guard made of adapted weights.

    Attributes:
        weights: To be used, finite if those they started from are, [B, P].
        reasons: By each reason, whom it applies to, [B].
    """

    weights: Floats
    reasons: dict[str, Bools]

    @property
    def finite(self) -> Bools:
        """Whose outcome was; the others' are the weights it started from."""
        return ~self.reasons[NOT_FINITE]


@dataclasses.dataclass(frozen=True, eq=False)
class Guard:
    """The rules for one model.

    Attributes:
        prior_std: Standard deviation of each value's prior, [P]; 0 for those
            that do not adapt.
        config: How much is let through.
    """

    prior_std: Floats
    config: GuardConfig = GuardConfig()

    @classmethod
    def of(cls, inner_loop: Mapping[str, Any], num_adaptive: int) -> "Guard":
        """Returns the guard of a model.

        Args:
            inner_loop: What its manifest says of the inner loop.
            num_adaptive: Adaptive values per user (P).
        """
        if "prior_variance" in inner_loop:
            std = np.sqrt(inner_loop["prior_variance"])
        elif "prior_precision" in inner_loop:
            std = np.asarray(inner_loop["prior_precision"], float) ** -0.5
        else:
            std = np.array(_DEFAULT_STD)
        return cls(np.broadcast_to(std, num_adaptive))

    def misled(self, adapted: Adapted, num_new: Ints, sizes: Ints) -> Ints:
        """Returns whose weights predicted the new events far worse.

        They must start over from the meta-initialization. Nobody must if the
        model does not tell losses of events.

        Args:
            adapted: What the inner loop came to.
            num_new: How many of each user's support events, the last ones,
                were not learned from before, [B].
            sizes: How many support events each user has, [B].

        Returns:
            Their rows.
        """
        if adapted.event_loss is None or adapted.event_loss_meta_init is None:
            return np.zeros(0, np.int64)
        place = np.arange(adapted.event_loss.shape[1])
        is_new = (place < sizes[:, np.newaxis]) & (
            place >= (sizes - num_new)[:, np.newaxis]
        )
        excess = adapted.event_loss - adapted.event_loss_meta_init
        total = np.where(is_new, excess, 0.0).sum(axis=1)
        return np.flatnonzero(
            (num_new >= self.config.min_held_back)
            & (total > self.config.max_held_back_excess * num_new)
        )

    def check(
        self, start: Floats, adapted: Adapted, meta_init: Floats
    ) -> Guarded:
        """Goes by the rules that look at the outcome.

        Args:
            start: Where the inner loop started, [B, P].
            adapted: What it came to.
            meta_init: The meta-initialization, [P].
        """
        finite = np.isfinite(adapted.weights).all(axis=1)
        finite &= np.isfinite(adapted.loss_after)
        limit = adapted.loss_before + self.config.max_loss_rise
        worse = finite & (adapted.loss_after > limit)
        used = (finite & ~worse)[:, np.newaxis]
        weights = np.where(used, adapted.weights, start)
        norm = self.norm(weights, meta_init)
        far = norm > self.config.max_norm
        if far.any():
            ratio = self.config.max_norm / norm[far, np.newaxis]
            weights[far] = meta_init + ratio * (weights[far] - meta_init)
        return Guarded(weights, {NOT_FINITE: ~finite, LOSS: worse, NORM: far})

    def norm(self, weights: Floats, meta_init: Floats) -> Floats:
        """Returns how far weights [B, P] are from the meta-init, [B]."""
        shift = weights - meta_init
        scaled = np.divide(
            shift,
            self.prior_std,
            out=np.zeros(shift.shape),
            where=self.prior_std > 0,
        )
        norm: Floats = np.sqrt(np.mean(np.square(scaled), axis=1))
        return norm
