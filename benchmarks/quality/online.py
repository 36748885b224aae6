"""The online stage as it runs in service, and what it forgot at its end.

Users come in order of arrival and are learned from, and the meta state moves
with them.
"""

from typing import Any

import numpy as np

from benchmarks.quality.inputs import Inputs, Judged
from benchmarks.quality.intervals import as_json
from benchmarks.quality.outcome import Outcome, Scores
from serving.contract.intervals import bootstrap
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from trainer.online_stream import score_arrivals
from trainer.two_tower import PartitionedTwoTower

_FIRST_SHARE = 10


def score_online_stage(
    inputs: Inputs, model: PartitionedTwoTower, outcome: Outcome
) -> Scores:
    """Scores the stream; notes in `outcome` what became of the meta state."""
    config = OnlineMetaConfig()
    found = score_arrivals(
        model,
        inputs.data.catalog,
        inputs.test.users,
        inputs.arrivals.user_ids,
        inputs.arrivals.timestamps,
        config,
    )
    scores = inputs.test.flat(found.windows)
    progress = found.progress
    outcome.info["online_progress"] = {
        "promoted": progress.promoted,
        "refused": progress.refused,
        "max_shift": progress.max_shift,
    }
    outcome.info["forgetting"] = _forgetting(
        inputs, model, scores, progress.current
    )
    return scores


def _forgetting(
    inputs: Inputs,
    model: PartitionedTwoTower,
    scores: Scores,
    newest: MetaState,
) -> dict[str, Any]:
    """The first tenth of the users, scored again with the newest meta state.

    Returns:
        AUC and wGAUC at the time and at the end of the stream, and what was
        lost between, as intervals.
    """
    arrivals, users = inputs.arrivals, inputs.test.users
    order = np.argsort([times[0] for times in arrivals.timestamps])
    first = np.sort(order[: max(1, len(order) // _FIRST_SHARE)])
    again = score_arrivals(
        model,
        inputs.data.catalog,
        users.take(first),
        [arrivals.user_ids[user] for user in first],
        [arrivals.timestamps[user] for user in first],
        OnlineMetaConfig(enabled=False),
        newest,
    )
    judged = Judged(users.take(first))
    at_the_time = scores[np.isin(inputs.test.stream_rows.user, first)]
    intervals = bootstrap(
        judged.stream_rows,
        {"at_the_time": at_the_time, "at_the_end": judged.flat(again.windows)},
        {"lost": ("at_the_time", "at_the_end")},
    )
    return {"users": len(first)} | {
        figure: {name: as_json(value) for name, value in by_name.items()}
        for figure, by_name in intervals.items()
    }
