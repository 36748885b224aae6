"""Who is asked on a stream of users, and about whom."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.contract.guard import Adapted
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import Floats, MetaState
from serving.contract.meta_tasks import MetaTask
from serving.contract.support import Support, SupportEvent
from serving.contract.timeline import StreamUser

Ints = NDArray[np.int64]


class EventUser(StreamUser, Protocol):
    """A user of a stream, with events."""

    def events(self, rows: Ints) -> Sequence[SupportEvent]:
        """The rows with these indices, as a model learns from them."""


class StreamModel(Protocol):
    """A model, asked for a batch of users by their indices."""

    def adapt(
        self,
        users: Ints,
        supports: Sequence[Support],
        weights: Floats,
        state: MetaState,
    ) -> Adapted:
        """Runs the inner loop.

        Args:
            users: Indices, shape [B]; none of them twice.
            supports: What each learns from.
            weights: Where each starts, [B, P].
            state: The meta state.
        """

    def meta_gradient(
        self, tasks: Sequence[MetaTask[int]], state: MetaState
    ) -> MetaGradient:
        """Differentiates the query loss of tasks; `context` is the user."""

    def rank(
        self, users: Ints, rows: Sequence[Ints], weights: Floats
    ) -> Sequence[Floats]:
        """Scores rows of users; returns their logits, one array per user.

        Args:
            users: Indices, shape [B]; any of them several times.
            rows: Indices of the user's rows.
            weights: Adaptive weights, [B, P].
        """
