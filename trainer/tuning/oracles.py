"""Keras Tuner's oracles: who proposes the next trial."""

import math

import keras_tuner

from trainer.config import TrainerConfig
from trainer.tuning.options import BAYESIAN, HYPERBAND, TuningOptions

OBJECTIVE = "meta_valid_few_shot"
# A Gaussian process knows nothing before it has seen some trials; Keras
# Tuner's own default, three per dimension, is more than most searches have.
_RANDOM_SHARE = 3


def make_oracle(
    options: TuningOptions,
    space: keras_tuner.HyperParameters,
    base: TrainerConfig,
) -> keras_tuner.Oracle:
    """Makes the oracle that the options name.

    Args:
        options: Of the search.
        space: All that is searched.
        base: Says how long the longest trial of Hyperband is.
    """
    shared = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": space,
        "tune_new_entries": False,
        # Keras Tuner takes 0 for none.
        "seed": options.seed + 1,
        # A wide space has corners where training diverges; they say nothing
        # of the rest of it.
        "max_consecutive_failed_trials": options.max_trials + 1,
    }
    if options.oracle == HYPERBAND:
        oracle = keras_tuner.oracles.HyperbandOracle(
            max_epochs=math.ceil(base.max_steps / base.steps_per_evaluation),
            **shared,
        )
        # It knows no such argument, but keeps to it.
        oracle.max_trials = options.max_trials
        return oracle
    if options.oracle == BAYESIAN:
        return keras_tuner.oracles.BayesianOptimizationOracle(
            max_trials=options.max_trials,
            num_initial_points=max(options.max_trials // _RANDOM_SHARE, 2),
            **shared,
        )
    return keras_tuner.oracles.RandomSearchOracle(
        max_trials=options.max_trials, **shared
    )
