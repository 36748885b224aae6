"""Judged rows as a table: scores, labels, and what was known before each."""

from collections.abc import Sequence

import farmhash
import numpy as np
import pandas as pd

from components.cold_users import ColdUser
from serving.contract import protocol
from serving.contract.labels import liked

# An item's mean counts the mean of all as this many labels.
PRIOR_LABELS = 10.0


def judged_rows(
    users: Sequence[ColdUser],
    log: pd.DataFrame,
    scores: Sequence[np.ndarray],
    zero_shot: Sequence[np.ndarray],
    online: bool,
) -> pd.DataFrame:
    """One row per judged row: scores, and what was known before it."""
    items = item_means(log)
    stars = log.set_index(["user", "item"]).star
    frames = []
    for user in users:
        events = pd.DataFrame(
            {
                "user": user.user_id,
                "item": user.item_ids,
                "label": liked(user.labels).astype(float),
                "time": user.timestamps,
            }
        ).join(stars[user.user_id], on="item")
        events = events.join(items, on="item")
        for window in user.windows:
            first = protocol.FIRST_SUPPORT_EVENTS
            if online:
                first += window.number * protocol.WINDOW_EVENTS
            known = events[user.positions < first]
            rows = events.iloc[window.rows].assign(
                window=window.number, **known_figures(known)
            )
            rows["since_first"] = np.log1p(rows.time - events.time.iloc[0])
            gap = rows.time - known.time.iloc[-1]
            rows["since_last"] = np.log1p(gap.clip(lower=0))
            frames.append(rows)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(
        score=np.concatenate(scores), zero_shot=np.concatenate(zero_shot)
    )


def item_means(log: pd.DataFrame) -> pd.DataFrame:
    """Items by meta_train's events: how many stars, and how often liked."""
    split = {
        user: protocol.split_of_bucket(
            farmhash.fingerprint64(user) % 100, count
        )
        for user, count in log.user.value_counts().items()
    }
    train = log[log.user.map(split) == protocol.META_TRAIN]
    values = ["star", "liked"]
    items = train.groupby("item")[values]
    count = items.size()
    prior = train[values].mean()
    means = (items.sum() + PRIOR_LABELS * prior).div(
        count + PRIOR_LABELS, axis=0
    )
    return pd.DataFrame(
        {
            "item_mean": means.star,
            "item_liked": means.liked,
            "item_count": np.log1p(count),
        }
    )


def known_figures(known: pd.DataFrame) -> dict[str, float]:
    """What the events before a window say of their user."""
    return {
        "known": np.log1p(len(known)),
        "label_mean": known.label.mean(),
        "label_excess": (known.label - known.item_liked).mean(),
        "star_mean": known.star.mean(),
        "star_spread": known.star.std(),
        "star_excess": (known.star - known.item_mean).mean(),
        "known_span": np.log1p(known.time.iloc[-1] - known.time.iloc[0]),
    }
