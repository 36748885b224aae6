"""The regime `online` as the protocol has it, for a model in training.

Users come in the order of their first event, each is learned from, and the
meta state moves by the rules that serving goes by. `trainer.scorer` walks the
same windows faster, all users in step, where the meta state stands still:
that is what training is stopped by.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from serving.contract.guard import Guard
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import Floats, MetaState
from serving.contract.meta_update import MetaProgress
from serving.contract.online_stream import score_online
from serving.contract.protocol import stream_windows
from serving.contract.stream_model import Ints
from serving.contract.support import RESERVOIR_EVENTS
from trainer.episodes import Catalog
from trainer.stream import StreamUsers
from trainer.stream_model import InProcessModel, InProcessUser
from trainer.two_tower import PartitionedTwoTower


@dataclasses.dataclass(frozen=True)
class OnlineResult:
    """What the stream came to.

    Attributes:
        windows: Logits of each window, [users, N], 0-padded: as
            `trainer.scorer.score_stream` gives them for one regime.
        progress: The meta state at the end, and how it got there.
    """

    windows: list[Floats]
    progress: MetaProgress


def score_arrivals(
    model: PartitionedTwoTower,
    catalog: Catalog,
    users: StreamUsers,
    user_ids: Sequence[str],
    timestamps: Sequence[Ints],
    config: OnlineMetaConfig,
    meta_state: MetaState | None = None,
) -> OnlineResult:
    """Scores users' windows in the order in which they come.

    Args:
        model: Trained; it does not change.
        catalog: Items.
        users: Their rows.
        user_ids: Id of each user.
        timestamps: Seconds of each user's rows.
        config: When and how far the meta state moves.
        meta_state: To begin with; the model's own if None. With that of the
            stream's end and `config.enabled` off, this measures forgetting.
    """
    streamed = [
        InProcessUser(user_id, item_row, label, position, times)
        for user_id, item_row, label, position, times in zip(
            user_ids,
            users.item_row,
            users.label,
            users.position,
            timestamps,
            strict=True,
        )
    ]
    found = score_online(
        InProcessModel(model, catalog, users),
        streamed,
        meta_state or exported_state(model),
        RESERVOIR_EVENTS,
        config,
        Guard.of(model.inner_loop.settings(), model.partition.size),
    )
    return OnlineResult(
        _by_window(users.position, found.scores), found.progress
    )


def exported_state(model: PartitionedTwoTower) -> MetaState:
    """The meta state that a model's export would carry."""
    return MetaState(
        model.partition.meta_init().numpy(),
        model.inner_loop.log_inner_lr.numpy(),
    )


def _by_window(
    positions: Sequence[Ints], scores: Sequence[Floats]
) -> list[Floats]:
    """Each user's scores, window after window, as an array per window."""
    windows = [stream_windows(position) for position in positions]
    arrays = []
    for number in range(max(map(len, windows), default=0)):
        sizes = [len(w[number].rows) if number < len(w) else 0 for w in windows]
        scored = np.zeros((len(windows), max(sizes)), np.float32)
        for user, size in enumerate(sizes):
            done = sum(len(w.rows) for w in windows[user][:number])
            scored[user, :size] = scores[user][done : done + size]
        arrays.append(scored)
    return arrays
