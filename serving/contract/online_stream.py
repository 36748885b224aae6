"""The regime `online` on a stream of users: learn from each, and from all.

The same order of calls as a gateway sees, but batched. When the meta state
moves depends on who did what and when, not on what a model answers; and
between two moves users don't influence each other. So all that happens
between two moves is one round per event of a user: the first calls of `adapt`
of all users together, then the second ones, and so on. What is ranked waits
until the end, with the weights as they were.
"""

import collections
import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from serving.contract.guard import Guard
from serving.contract.guarded_adapt import adapt_guarded
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import Floats, MetaState
from serving.contract.meta_tasks import MetaBatch, TaskCollector
from serving.contract.meta_update import MetaProgress
from serving.contract.stream_model import EventUser, Ints, StreamModel
from serving.contract.support import Support, merge_support
from serving.contract.timeline import (
    RANK,
    Step,
    arrival_order,
    timeline,
)

_Item = TypeVar("_Item")
_Rounds = defaultdict[int, list[_Item]]

# Bounds the memory of one call, and of what waits to be learned.
_USERS_PER_CALL = 512
_LEARNS_PER_SEGMENT = 4096


@dataclasses.dataclass(frozen=True)
class OnlineScores:
    """What the stream came to.

    Attributes:
        scores: Logits of each user's judged rows, window after window.
        progress: The meta state at the end, and how it got there.
        guarded: How many times the guard stepped in, by reason.
    """

    scores: list[Floats]
    progress: MetaProgress
    guarded: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Learn:
    """A user's turn to learn."""

    user: int
    support: Support
    num_new: int


def score_online(
    model: StreamModel,
    users: Sequence[EventUser],
    exported: MetaState,
    reservoir_events: int,
    config: OnlineMetaConfig,
    guard: Guard | None = None,
) -> OnlineScores:
    """Scores users' windows, learning from each after it was scored.

    Args:
        model: Whom to ask.
        users: In any order; they arrive by the time of their first event.
        exported: The meta state to begin with.
        reservoir_events: How many of a user's events are kept.
        config: When and how far the meta state moves.
        guard: Which adapted weights may be used; None: all.

    Returns:
        Scores in the order of `users`.
    """
    stream = _Stream(model, users, exported, reservoir_events, config, guard)
    arrivals = arrival_order(users)
    for step in timeline([users[index] for index in arrivals]):
        stream.take(step, arrivals[step.arrival])
    return stream.finish()


class _Stream:
    """Goes along a timeline, a segment between two meta states at a time."""

    def __init__(
        self,
        model: StreamModel,
        users: Sequence[EventUser],
        exported: MetaState,
        reservoir_events: int,
        config: OnlineMetaConfig,
        guard: Guard | None,
    ) -> None:
        self._model = model
        self._guard = guard
        self._guarded: collections.Counter[str] = collections.Counter()
        self._users = users
        self._reservoir_events = reservoir_events
        self._config = config
        self._collector: TaskCollector[int] = TaskCollector(config)
        self._progress = MetaProgress.start(exported)
        self._weights = exported.initial_weights(len(users))
        self._is_new = np.ones(len(users), bool)
        self._kept = [Support((), (), 0)] * len(users)
        # Who ranks what with which weights, each user's in order.
        self._ranked: list[tuple[int, Ints, Floats]] = []
        self._begin_segment()

    def _begin_segment(self) -> None:
        # By round: what users learn from, and which rows they rank before.
        self._learns: _Rounds[_Learn] = defaultdict(list)
        self._ranks: _Rounds[tuple[int, Ints]] = defaultdict(list)
        self._done = dict[int, int]()
        self._num_learns = 0

    def take(self, step: Step, user: int) -> None:
        """Makes one call of the timeline."""
        done = self._done.get(user, 0)
        if step.kind == RANK:
            self._ranks[done].append((user, step.rows))
            return
        before = self._kept[user]
        new_events = self._users[user].events(step.rows)
        support = merge_support(
            before.reservoir, new_events, before.count, self._reservoir_events
        )
        self._kept[user] = support
        self._learns[done].append(_Learn(user, support, len(new_events)))
        self._done[user] = done + 1
        self._num_learns += 1
        batch = None
        if self._config.enabled:
            batch = self._collector.observe(
                self._users[user].user_id,
                user,
                before.reservoir,
                before.count,
                new_events,
            )
        if batch is not None or self._num_learns >= _LEARNS_PER_SEGMENT:
            self._end_segment()
        if batch is not None:
            self._progress = _update(
                self._model, self._progress, batch, self._config
            )

    def _end_segment(self) -> None:
        state = self._progress.current
        new = self._is_new
        self._weights[new] = state.meta_init
        for number in range(max(self._done.values(), default=0) + 1):
            self._ranked += [
                (user, rows, self._weights[user].copy())
                for user, rows in self._ranks[number]
            ]
            for chunk in _chunks(self._learns[number]):
                self._learn(chunk, state)
        self._begin_segment()

    def _learn(self, learns: Sequence["_Learn"], state: MetaState) -> None:
        """Runs the inner loop of different users."""
        users = np.array([learn.user for learn in learns])
        self._weights[users], guarded = adapt_guarded(
            self._model,
            self._guard,
            users,
            [learn.support for learn in learns],
            np.array([learn.num_new for learn in learns]),
            self._weights[users],
            state,
        )
        self._guarded.update(guarded)
        self._is_new[users] = False

    def finish(self) -> OnlineScores:
        """Learns and ranks what still waits."""
        self._end_segment()
        scores: list[list[Floats]] = [[] for _ in self._users]
        for chunk in _chunks(self._ranked):
            users, rows, weights = zip(*chunk, strict=True)
            answers = self._model.rank(
                np.array(users), rows, np.array(weights, np.float32)
            )
            for user, answer in zip(users, answers, strict=True):
                scores[user].append(answer)
        empty = np.zeros(0, np.float32)
        return OnlineScores(
            [np.concatenate([empty, *parts]) for parts in scores],
            self._progress,
            dict(self._guarded),
        )


def _update(
    model: StreamModel,
    progress: MetaProgress,
    batch: MetaBatch[int],
    config: OnlineMetaConfig,
) -> MetaProgress:
    """Takes one guarded step of the outer loop."""
    step = progress.propose(
        model.meta_gradient(batch.tasks, progress.current), config
    )
    before, after = (
        model.meta_gradient(batch.held_back, state).losses
        for state in (progress.current, step.candidate)
    )
    return progress.judge(step, before, after, config)


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _USERS_PER_CALL):
        yield items[start : start + _USERS_PER_CALL]
