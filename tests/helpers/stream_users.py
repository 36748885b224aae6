"""Users of a stream over the toy's items, and the toy as their model."""

import dataclasses

import numpy as np

from serving.contract.guard import Adapted
from serving.contract.meta_gradient import MetaGradient
from serving.contract.support import SupportEvent
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE, ToyOracle


@dataclasses.dataclass(frozen=True, eq=False)
class ToyUser:
    """A user whose events have one row each."""

    user_id: str
    item_ids: tuple[str, ...]
    labels: tuple[float, ...]
    timestamps: np.ndarray
    features: dict = dataclasses.field(default_factory=dict)

    @property
    def positions(self):
        return np.arange(len(self.item_ids))

    def events(self, rows):
        return [SupportEvent(self.item_ids[r], self.labels[r]) for r in rows]


def make_users(num_users, bent=None, seed=0, num_events=40):
    """Users whose sessions overlap, later ones with smaller ids.

    Args:
        num_users: How many.
        bent: Adaptive weights of the population, around which users vary; at
            random if None.
        seed: Of events and times.
        num_events: The most that a user has.
    """
    random = np.random.default_rng(seed)
    oracle = ToyOracle.from_seed(0)
    users = []
    for number in range(num_users):
        count = int(random.integers(num_events // 2, num_events + 1))
        items = random.choice(np.array([*ITEM_IDS, "unknown"]), count)
        own = random.normal(0.0, 1.0, NUM_ADAPTIVE)
        own = own if bent is None else bent + 0.2 * own
        logits = oracle.rank({}, list(items), own)
        labels = random.random(count) < 1.0 / (1.0 + np.exp(-logits))
        start = 1000 * number + random.integers(0, 3000)
        gaps = random.choice([0, 1, 300], count)
        users.append(
            ToyUser(
                f"u{num_users - number:03d}",
                tuple(map(str, items)),
                tuple(labels.astype(float)),
                start + np.cumsum(gaps),
            )
        )
    return users


class OracleModel:
    """The toy's closed form as a `StreamModel`, one user at a time.

    Attributes:
        calls: Signature and number of users of each call.
    """

    def __init__(self, users, oracle=None):
        self._users = users
        self._oracle = oracle or ToyOracle.from_seed(0)
        self.calls = []

    def adapt(self, users, supports, weights, state):
        self.calls.append(("adapt", len(users)))
        assert len(set(users)) == len(users)
        outcomes = [
            self._oracle.adapt(
                self._users[u].features, *columns(s.events), None, w, state
            )
            for u, s, w in zip(users, supports, weights, strict=True)
        ]
        adapted, before, after = zip(*outcomes, strict=True)
        width = max(len(support.events) for support in supports)
        losses = np.zeros((2, len(users), width))
        for row, (user, support) in enumerate(
            zip(users, supports, strict=True)
        ):
            items, labels = columns(support.events)
            for by_weights, own in zip(
                losses, (weights[row], state.meta_init), strict=True
            ):
                logits = self._oracle.rank(
                    self._users[user].features, items, own
                )
                by_weights[row, : len(items)] = (
                    np.logaddexp(0.0, logits) - np.array(labels) * logits
                )
        return Adapted(
            np.array(adapted, np.float32),
            np.array(before),
            np.array(after),
            *losses,
        )

    def rank(self, users, rows, weights):
        self.calls.append(("rank", len(users)))
        return [
            self._oracle.rank(
                self._users[u].features,
                [self._users[u].item_ids[r] for r in own],
                w,
            )
            for u, own, w in zip(users, rows, weights, strict=True)
        ]

    def meta_gradient(self, tasks, state):
        self.calls.append(("meta_gradient", len(tasks)))
        by_init, by_steps, losses = zip(
            *(
                self._oracle.meta_gradient(
                    self._users[task.context].features,
                    (*columns(task.support), np.ones(len(task.support))),
                    (*columns(task.query_set), np.ones(len(task.query_set))),
                    state,
                )
                for task in tasks
            ),
            strict=True,
        )
        return MetaGradient(
            np.sum(by_init, axis=0), np.sum(by_steps, axis=0), np.array(losses)
        )


def columns(events):
    """Item ids and labels of events."""
    return [e.item_id for e in events], [e.label for e in events]
