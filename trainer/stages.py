"""The offline stage and the `joint` baseline, from episodes to a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from serving.contract.features import Feature
from trainer.baselines.joint import JointLearner
from trainer.carried_share import choose_carried_share
from trainer.config import LEARNED, TrainerConfig
from trainer.episodes import (
    Catalog,
    catalog_pattern,
    expand,
    read_catalog,
    read_episodes,
)
from trainer.features import FeatureSpace
from trainer.graded_labels import Degrees
from trainer.item_factors import ItemFactors, Targets, item_factors
from trainer.learned_partition import reduce_partition
from trainer.outer_loop import MetaLearner
from trainer.partition import meta_learning
from trainer.plain_rows import sample_rows
from trainer.progress import RESULTS
from trainer.stream_validation import StreamValidation
from trainer.tasks import sample_tasks
from trainer.training import (
    TrainingResult,
    adapted_objective,
    train,
    zero_shot_objective,
)
from trainer.two_tower import PartitionedTwoTower


@dataclasses.dataclass(frozen=True)
class StageData:
    """What a stage trains on.

    Attributes:
        meta_train: Episodes of the users trained on.
        meta_valid: Episodes of the users that training is stopped by.
        space: Features of users and items.
        catalog: Items.
    """

    meta_train: tf.data.Dataset
    meta_valid: tf.data.Dataset
    space: FeatureSpace
    catalog: Catalog

    @classmethod
    def read(
        cls,
        train_patterns: Sequence[str],
        valid_patterns: Sequence[str],
        transform_output: tft.TFTransformOutput,
        user_features: Sequence[Mapping[str, Any]],
        item_features: Sequence[Mapping[str, Any]],
        draw_weights: Mapping[str, float] | None = None,
    ) -> "StageData":
        """Reads an episodes artifact.

        Args:
            train_patterns: Files of split meta_train; the catalog lies beside.
            valid_patterns: Files of split meta_valid.
            transform_output: Output of Transform.
            user_features: As `Feature.to_dict` gives them.
            item_features: The same.
            draw_weights: As for `read_episodes`; of meta_train.
        """
        space = FeatureSpace.from_transform(
            transform_output,
            [Feature.from_dict(f) for f in user_features],
            [Feature.from_dict(f) for f in item_features],
        )
        catalog = read_catalog(
            expand([catalog_pattern(train_patterns[0])]), space
        )
        return cls(
            meta_train=read_episodes(
                expand(train_patterns), space, catalog, draw_weights
            ),
            meta_valid=read_episodes(expand(valid_patterns), space, catalog),
            space=space,
            catalog=catalog,
        )


def train_offline(
    data: StageData,
    config: TrainerConfig,
    log_dir: str | None = None,
    checkpoint_dir: str | None = None,
) -> tuple[PartitionedTwoTower, TrainingResult]:
    """Offline meta-learning of a partitioned model; see `train`."""
    factors = starting_factors(data, config)
    model = _fresh_model(data, config)
    if factors:
        model.item_tower.start_from(factors)
    validation = _validation(model, data, config)
    with meta_learning(model.user_specific_layers):
        result = train(
            MetaLearner(model, data.catalog, config),
            sample_tasks(data.meta_train, data.space, config),
            validation,
            adapted_objective,
            config,
            log_dir,
            checkpoint_dir,
        )
    if config.partition == LEARNED:
        # A budget may cut what training was judged with.
        reduce_partition(model, config.max_bytes_per_user)
    figures = choose_carried_share(model, validation)
    return model, dataclasses.replace(result, figures=figures)


def train_joint(
    data: StageData,
    config: TrainerConfig,
    log_dir: str | None = None,
    checkpoint_dir: str | None = None,
) -> tuple[PartitionedTwoTower, TrainingResult]:
    """Plain supervised training of the same architecture; see `train`."""
    model = _fresh_model(data, config)
    result = train(
        JointLearner(model, data.catalog),
        sample_rows(data.meta_train, data.space, config),
        _validation(model, data, config),
        zero_shot_objective,
        config,
        log_dir,
        checkpoint_dir,
    )
    return model, result


def _fresh_model(data: StageData, config: TrainerConfig) -> PartitionedTwoTower:
    tf_keras.utils.set_random_seed(config.seed)
    return PartitionedTwoTower(data.space, config, _degrees(data, config))


def _degrees(data: StageData, config: TrainerConfig) -> Degrees:
    return Degrees.of(data.meta_train, config.liked_from, config.degree_weight)


def starting_factors(
    data: StageData, config: TrainerConfig
) -> ItemFactors | None:
    """What item-id embeddings start from in meta-learning.

    Items that few users have met, or only by negatives that were drawn, may
    have vectors that lead astray. So what was fitted has to be better on
    meta_valid, before any outer step, than random vectors with the same biases.

    Returns:
        None where they start at random: with `config.warm_start_rounds` of 0,
        or because that is better.
    """
    if not config.warm_start_rounds:
        return None
    targets = Targets.read(
        data.meta_train,
        data.catalog,
        data.space.num_item_indices,
        config,
        _degrees(data, config),
    )
    fitted = item_factors(
        targets, config.vector_size, config.warm_start_rounds, config.seed
    )
    model = _fresh_model(data, config)
    validation = _validation(model, data, config)
    values = []
    for factors in (fitted, fitted.with_random_vectors(config.seed)):
        model.item_tower.start_from(factors)
        values.append(adapted_objective(validation.evaluate()))
    helps = values[0] > values[1]
    RESULTS.info(
        "fitted item vectors: %.4f on meta_valid, random ones %.4f: %s",
        *values,
        "training starts from them" if helps else "training starts at random",
    )
    return fitted if helps else None


def _validation(
    model: PartitionedTwoTower, data: StageData, config: TrainerConfig
) -> StreamValidation:
    return StreamValidation(
        model,
        data.meta_valid,
        data.space,
        data.catalog,
        config.max_validation_users,
    )
