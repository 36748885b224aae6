"""Our model under the protocols of published tables, beside their figures.

RecBole-MetaRec takes a user's five highest ratings of ten for positives, ties
broken at will, and looks at the first five of the ten: a random order gets
P@5 and nDCG@5 of one half and MRR@5 of 0.704. So it is printed, too, as are
our figures with the support set before the query set in time.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.quality.intervals import as_json
from benchmarks.quality.published_data import (
    HIGHEST,
    LOWEST,
    METAREC,
    QUERY_RATINGS,
    PublishedProtocol,
    RatedUsers,
    scaled,
)
from serving.contract.features import USER_ROW
from serving.contract.intervals import draw_figures, interval_of
from trainer.config import TrainerConfig
from trainer.scorer import Scorer, TwoTowerScorer
from trainer.stages import StageData, train_joint, train_offline
from trainer.tasks import LabelledRows

TOP = 5

# As the projects' own pages give them: RecBole-MetaRec's result page of
# MovieLens-1M, and the README of waterhorse1/MELU_pytorch (new users).
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "metarec": {
        "MeLU (rating)": {"precision": 0.5061, "ndcg": 0.5044, "mrr": 0.7016},
        "MAMO (rating)": {"precision": 0.5923, "ndcg": 0.6079, "mrr": 0.8073},
        "TaNP (rating)": {"precision": 0.6036, "ndcg": 0.6145, "mrr": 0.7993},
        "LWA (click)": {"ndcg": 0.4881},
        "NLBA (click)": {"ndcg": 0.4880},
        "MetaEmb (click)": {"ndcg": 0.5409, "mrr": 0.6668},
        "MWUF (click)": {"precision": 0.4211, "ndcg": 0.5331},
    },
    "melu": {
        "MELU_pytorch": {"mae": 0.74},
        "MeLU, as quoted there": {"mae": 0.79},
    },
}

Floats = NDArray[np.float64]


def run_published(
    data: StageData,
    rated: RatedUsers,
    protocol: PublishedProtocol,
    values: Mapping[str, Any],
    seeds: Sequence[int],
    draws: int,
) -> dict[str, Any]:
    """Trains and judges ours and `joint`, once per seed and division.

    Args:
        data: Features and items; its episodes are not used.
        rated: Users of the protocol, ratings in order of time.
        protocol: How users are divided.
        values: Hyper-parameters.
        seeds: Of divisions, random orders and trainings.
        draws: Of the bootstrap, over the judged users of all seeds.

    Returns:
        `ours`: figures with intervals by model, `published`: theirs.
    """
    found: dict[str, list[dict[str, Floats]]] = {}
    for seed in seeds:
        for name, figures in _judge(data, rated, protocol, values, seed):
            found.setdefault(name, []).append(figures)
    return {
        "users": len(rated),
        "ours": {
            name: _intervals(by_seed, draws) for name, by_seed in found.items()
        },
        "published": PUBLISHED[protocol.name],
    }


def _judge(
    data: StageData,
    rated: RatedUsers,
    protocol: PublishedProtocol,
    values: Mapping[str, Any],
    seed: int,
) -> list[tuple[str, dict[str, Floats]]]:
    """Figures of each judged user by model, for one seed."""
    order = np.random.default_rng(seed).permutation(len(rated))
    ends = np.cumsum(protocol.shares)[:2] * len(rated)
    train, valid, test = np.split(order, ends.astype(int))
    shuffled = rated.shuffled(seed)
    divided = dataclasses.replace(
        data,
        meta_train=shuffled.take(train).episodes(),
        meta_valid=shuffled.take(valid).episodes(),
    )
    config = TrainerConfig.from_dict(
        {**values, "seed": seed, "predict_degree": True}
    )
    ours, _ = train_offline(divided, config)
    joint, _ = train_joint(divided, config)
    score = figures_of(protocol)
    judged = shuffled.take(test)
    in_time = rated.take(test)
    random = np.random.default_rng(seed)
    noise = random.normal(size=(len(test), QUERY_RATINGS))
    return [
        ("random order", score(judged, noise)),
        *(
            (
                name,
                score(
                    users,
                    _scores(TwoTowerScorer(model, data.catalog), users, learns),
                ),
            )
            for name, model, users, learns in (
                ("joint", joint, judged, False),
                ("ours", ours, judged, True),
                ("joint, in order of time", joint, in_time, False),
                ("ours, in order of time", ours, in_time, True),
            )
        ),
    ]


def _scores(scorer: Scorer, users: RatedUsers, learns: bool) -> Floats:
    """Logits of each user's last ten ratings, learned from all before."""
    size = max(len(rows) for rows in users.item_row) - QUERY_RATINGS
    support = LabelledRows(
        np.zeros([len(users), size], np.int32),
        np.zeros([len(users), size], np.float32),
        np.zeros([len(users), size], np.float32),
    )
    for user, (rows, rating) in enumerate(
        zip(users.item_row, users.rating, strict=True)
    ):
        known = len(rows) - QUERY_RATINGS
        support.item_row[user, :known] = rows[:known]
        support.label[user, :known] = scaled(rating[:known])
        support.weight[user, :known] = 1.0
    ids = {name: tf.constant(values) for name, values in users.ids.items()}
    ids[USER_ROW] = tf.zeros([len(users), 1], tf.int64)
    state = scorer.begin(ids)
    if learns:
        state = scorer.learn(state, support)
    query_set = np.array([rows[-QUERY_RATINGS:] for rows in users.item_row])
    return np.asarray(scorer.score(state, query_set), np.float64)


def figures_of(
    protocol: PublishedProtocol,
) -> Callable[[RatedUsers, Floats], dict[str, Floats]]:
    """What the protocol looks at: figures [users] by name, of logits."""
    return top_five if protocol is METAREC else absolute_error


def top_five(users: RatedUsers, scores: Floats) -> dict[str, Floats]:
    """P@5, nDCG@5 and MRR@5, the five highest ratings being the positives.

    Ties of ratings are broken at random, as if by `torch.topk`.
    """
    rating = _query_ratings(users)
    noise = np.random.default_rng(0).random(rating.shape)
    highest = np.argsort(-(rating + noise), axis=1)[:, :TOP]
    positive = np.zeros(rating.shape)
    np.put_along_axis(positive, highest, 1.0, axis=1)
    first = np.argsort(-scores, axis=1)[:, :TOP]
    hits = np.take_along_axis(positive, first, axis=1)
    discount = 1 / np.log2(np.arange(TOP) + 2)
    return {
        "precision": hits.mean(axis=1),
        "ndcg": hits @ discount / discount.sum(),
        "mrr": (hits / (np.arange(TOP) + 1)).max(axis=1),
    }


def absolute_error(users: RatedUsers, scores: Floats) -> dict[str, Floats]:
    """Mean absolute error of the expected rating."""
    expected = LOWEST + (HIGHEST - LOWEST) / (1 + np.exp(-scores))
    return {"mae": np.abs(_query_ratings(users) - expected).mean(axis=1)}


def _query_ratings(users: RatedUsers) -> NDArray[np.int64]:
    return np.array([rating[-QUERY_RATINGS:] for rating in users.rating])


def _intervals(
    by_seed: Sequence[Mapping[str, Floats]], draws: int
) -> dict[str, Any]:
    """Means over users and seeds; a seed's judged users are others."""
    found = {}
    for figure in by_seed[0]:
        values = np.concatenate([figures[figure] for figures in by_seed])

        def mean(weights: Floats, values: Floats = values) -> list[float]:
            return [float(values @ weights / weights.sum())]

        drawn = draw_figures(mean, len(values), draws, 0)
        found[figure] = as_json(interval_of(drawn[:, 0]))
    return found
