"""The inner loop of a stream's users, guarded as the gateway's is."""

from collections.abc import Sequence

import numpy as np

from serving.contract.guard import HELD_BACK, Guard
from serving.contract.meta_state import Floats, MetaState
from serving.contract.stream_model import Ints, StreamModel
from serving.contract.support import Support


def adapt_guarded(
    model: StreamModel,
    guard: Guard | None,
    users: Ints,
    supports: Sequence[Support],
    num_new: Ints,
    start: Floats,
    state: MetaState,
) -> tuple[Floats, dict[str, int]]:
    """Runs the inner loop of different users.

    Args:
        model: Whom to ask.
        guard: Which adapted weights may be used; None: all.
        users: Indices, shape [B]; none of them twice.
        supports: What each learns from.
        num_new: How many of each one's support events, the last ones, were
            not learned from before, [B].
        start: Where each starts, [B, P]; overwritten for those who must
            start over.
        state: The meta state.

    Returns:
        The weights to be used, [B, P]; and how many times the guard stepped
        in, by reason.
    """
    adapted = model.adapt(users, supports, start, state)
    if guard is None:
        return adapted.weights, {}
    misled = guard.misled(
        adapted,
        num_new,
        np.array([len(support.events) for support in supports]),
    )
    if len(misled):
        start[misled] = state.meta_init
        adapted.put(
            misled,
            model.adapt(
                users[misled],
                [supports[row] for row in misled],
                start[misled],
                state,
            ),
        )
    weights, reasons = guard.check(start, adapted, state.meta_init)
    guarded = {reason: int(who.sum()) for reason, who in reasons.items()}
    return weights, {HELD_BACK: len(misled), **guarded}
