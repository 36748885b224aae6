"""Trains the baselines as the offline stage is trained.

The same episodes, cuts and batches, the same moving average, stopped by the
same figure of the same meta_valid users.
"""

import tensorflow_recommenders as tfrs
import tf_keras

from trainer.baselines.fast_two_tower import FastTwoTower
from trainer.baselines.history import (
    HistoryLearner,
    HistoryScorer,
    HistoryTwoTower,
)
from trainer.baselines.maml_all import MamlAll, MamlLearner, MamlScorer
from trainer.config import TrainerConfig
from trainer.graded_labels import Degrees
from trainer.scorer import Scorer
from trainer.stages import StageData, starting_factors
from trainer.stream_validation import ScorerValidation
from trainer.tasks import sample_tasks
from trainer.training import TrainingResult, adapted_objective, train


def train_history(
    data: StageData, config: TrainerConfig, log_dir: str | None = None
) -> tuple[HistoryScorer, TrainingResult]:
    """Trains the tower that pools a user's history."""
    tf_keras.utils.set_random_seed(config.seed)
    model = HistoryTwoTower(data.space, data.catalog, config)
    scorer = HistoryScorer(model)
    return scorer, _train(
        HistoryLearner(model, config), scorer, data, config, log_dir
    )


def train_maml_all(
    data: StageData, config: TrainerConfig, log_dir: str | None = None
) -> tuple[MamlScorer, TrainingResult]:
    """Meta-learns the model of which every parameter adapts."""
    factors = starting_factors(data, config)
    tf_keras.utils.set_random_seed(config.seed)
    model = FastTwoTower(data.space, data.catalog, config)
    if factors:
        model.start_from(factors)
    maml = MamlAll(
        model,
        config,
        Degrees.of(data.meta_train, config.liked_from, config.degree_weight),
    )
    scorer = MamlScorer(maml)
    return scorer, _train(
        MamlLearner(maml, config), scorer, data, config, log_dir
    )


def _train(
    learner: tfrs.models.Model,
    scorer: Scorer,
    data: StageData,
    config: TrainerConfig,
    log_dir: str | None,
) -> TrainingResult:
    validation = ScorerValidation(
        scorer, data.meta_valid, data.space, config.max_validation_users
    )
    return train(
        learner,
        sample_tasks(data.meta_train, data.space, config),
        validation,
        adapted_objective,
        config,
        log_dir,
    )
