"""The protocol's few-shot question on meta_valid: how good after k events?"""

import dataclasses
import math

import tensorflow as tf

from serving.contract import metrics
from serving.contract.protocol import FEW_SHOT_SUPPORT_SIZES
from trainer.errors import EpisodeDataError
from trainer.features import FeatureSpace
from trainer.scorer import Scorer, score_few_shot
from trainer.stream import JudgedRows, StreamUsers, few_shot_step


@dataclasses.dataclass(frozen=True)
class FewShotFigures:
    """AUC and wGAUC of the same query sets by support size.

    Attributes:
        auc: By k, in events.
        wgauc: The same.
    """

    auc: dict[int, float]
    wgauc: dict[int, float]

    @property
    def objective(self) -> float:
        """Mean of AUC and wGAUC over all k: what the tuner maximizes."""
        values = [*self.auc.values(), *self.wgauc.values()]
        return sum(values) / len(values)


def few_shot_figures(
    scorer: Scorer,
    episodes: tf.data.Dataset,
    space: FeatureSpace,
    max_users: int,
) -> FewShotFigures:
    """Judges a scorer after k = 0, 1, 3, 5, 10 and 20 events.

    Users with fewer than k events before the query set learn from those they
    have; users without a query set are not judged.

    Args:
        scorer: What is judged.
        episodes: What `read_episodes` gives, of meta_valid.
        space: Features of users.
        max_users: Users taken at most, the first ones.

    Raises:
        EpisodeDataError: No user has a query set with both classes.
    """
    users = StreamUsers.read(episodes, space, max_users)
    figures = FewShotFigures({}, {})
    for size in FEW_SHOT_SUPPORT_SIZES if len(users) else ():
        step = few_shot_step(users, size)
        judged = JudgedRows([step.judged])
        scores = judged.flat([score_few_shot(scorer, users.ids, step)])
        rows = judged.rows
        figures.auc[size] = metrics.auc(rows.label, scores)
        figures.wgauc[size] = metrics.wgauc(rows.label, scores, rows.group)
    if not figures.auc or math.isnan(figures.objective):
        raise EpisodeDataError(
            "No meta_valid user has events 21 to 70 with both classes, so "
            "what is learned from few events can't be judged. Give users with "
            "more events, or another label rule in the dataset spec."
        )
    return figures
