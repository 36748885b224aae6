"""`popularity` and `item_mean`: the same list for everybody.

Both count meta_train's rows alone, so a judged user is never counted.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.features import ITEM_ROW
from serving.contract.labels import liked
from trainer.episodes import LABEL, Catalog
from trainer.tasks import LabelledRows

_USERS_PER_BATCH = 256

Floats = NDArray[np.float64]


def count_labels(
    episodes: tf.data.Dataset, catalog: Catalog
) -> tuple[Floats, Floats]:
    """Counts each item's rows.

    Args:
        episodes: What `read_episodes` gives, of meta_train.
        catalog: Items.

    Returns:
        Positive rows and all rows of each item, [items + 1] each.
    """
    size = catalog.unknown_row + 1
    positives, rows = np.zeros(size), np.zeros(size)
    for batch in episodes.ragged_batch(_USERS_PER_BATCH):
        items = batch[ITEM_ROW].values.numpy()
        positives += np.bincount(items, liked(batch[LABEL].values), size)
        rows += np.bincount(items, minlength=size)
    return positives, rows


class ItemScorer:
    """Scores items by one number each, whoever asks."""

    def __init__(self, item_score: Floats) -> None:
        """Takes a score per catalog row, [items + 1]."""
        self._item_score = item_score

    def begin(self, user_ids: Mapping[str, tf.Tensor]) -> None:
        """Nothing is known of anybody."""

    def learn(self, state: None, support: LabelledRows) -> None:
        """Nothing is learned."""

    def score(self, state: None, item_row: NDArray[np.int32]) -> Floats:
        """Looks the items up, [B, N]."""
        return self._item_score[item_row]


def popularity(positives: Floats) -> ItemScorer:
    """Scores items by how many users liked or took them, on a log scale."""
    return ItemScorer(np.log1p(positives))


def item_mean(positives: Floats, rows: Floats, prior_rows: float) -> ItemScorer:
    """Scores items by the logit of their mean label.

    Args:
        positives: Positive rows of each item.
        rows: All rows of each item.
        prior_rows: As many rows with the mean label of all are added, so that
            an item with one row is not at an end of the list.

    Returns:
        The scorer; its scores are logits of probabilities.
    """
    mean = positives.sum() / rows.sum()
    smoothed = (positives + prior_rows * mean) / (rows + prior_rows)
    return ItemScorer(np.log(smoothed) - np.log1p(-smoothed))
