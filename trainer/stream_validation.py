"""The protocol's stream on meta_valid users, inside the trainer.

Training looks at it to know when to stop, the tuner to choose; so the meta
state stands still here, and all users go through their windows in step.
`trainer.online_stream` has the regime `online` as it is judged at the end.
"""

import dataclasses

import tensorflow as tf

from serving.contract import metrics
from trainer.episodes import Catalog
from trainer.errors import EpisodeDataError
from trainer.features import FeatureSpace
from trainer.scorer import Scorer, TwoTowerScorer, score_stream
from trainer.stream import JudgedRows, StreamUsers, stream_steps
from trainer.two_tower import PartitionedTwoTower


@dataclasses.dataclass(frozen=True)
class StreamFigures:
    """AUC and wGAUC by how users are scored.

    Attributes:
        auc: By `joint` (features alone), `offline` and `online`.
        wgauc: The same.
    """

    auc: dict[str, float]
    wgauc: dict[str, float]

    def __str__(self) -> str:
        return "  ".join(
            f"{name} {self.auc[name]:.4f}/{self.wgauc[name]:.4f}"
            for name in self.auc
        )


class ScorerValidation:
    """The stream of a fixed set of users, ready to be scored again."""

    def __init__(
        self,
        scorer: Scorer,
        episodes: tf.data.Dataset,
        space: FeatureSpace,
        max_users: int,
    ) -> None:
        """Cuts the users' windows and support sets once.

        Args:
            scorer: What is to be judged.
            episodes: What `read_episodes` gives, of meta_valid.
            space: Features of users.
            max_users: Users taken at most, the first ones.

        Raises:
            EpisodeDataError: There is no user, or none to be judged.
        """
        self._scorer = scorer
        users = StreamUsers.read(episodes, space, max_users)
        if not len(users):
            raise EpisodeDataError(
                "meta_valid holds no user, so training can't be judged. Users "
                "with fewer than 30 events are never judged: does the log "
                "hold enough users and events?"
            )
        self._user_ids = users.ids
        self._steps = stream_steps(users)
        if len(self._steps) == 1:
            raise EpisodeDataError(
                "No meta_valid user has an event after its first support set, "
                "so training can't be judged. Give users with more events."
            )
        self._judged = JudgedRows([step.judged for step in self._steps[1:]])

    def evaluate(self) -> StreamFigures:
        """Scores the stream with the scorer as it is now."""
        rows = self._judged.rows
        scores = {
            learning.value: self._judged.flat(by_window)
            for learning, by_window in score_stream(
                self._scorer, self._user_ids, self._steps
            ).items()
        }
        return StreamFigures(
            auc={n: metrics.auc(rows.label, s) for n, s in scores.items()},
            wgauc={
                n: metrics.wgauc(rows.label, s, rows.group)
                for n, s in scores.items()
            },
        )


class StreamValidation(ScorerValidation):
    """The stream scored by a partitioned two-tower model."""

    def __init__(
        self,
        model: PartitionedTwoTower,
        episodes: tf.data.Dataset,
        space: FeatureSpace,
        catalog: Catalog,
        max_users: int,
    ) -> None:
        """Cuts once; `model` is judged as it is at each evaluation."""
        scorer = TwoTowerScorer(model, catalog)
        super().__init__(scorer, episodes, space, max_users)
