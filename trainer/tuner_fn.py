"""What TFX's Tuner calls: searches hyper-parameters with Keras Tuner.

Keras Tuner is bound to Keras 3 and this project, through TFRS, to Keras 2; so
a trial is not a Keras model to be fitted but a call of the meta-training loop,
judged on meta_valid.
"""

import logging
from typing import Any

import keras_tuner
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from trainer.config import PARTITION_PRESETS, TrainerConfig
from trainer.errors import TuningError
from trainer.stages import StageData, train_offline
from trainer.training import adapted_objective

_LOG = logging.getLogger(__name__)

OBJECTIVE = "meta_valid_quality"
_MAX_TRIALS = 12
_PROJECT = "adaptower"


def search_space() -> keras_tuner.HyperParameters:
    """Hyper-parameters of `TrainerConfig` that are searched."""
    space = keras_tuner.HyperParameters()
    defaults = TrainerConfig()
    space.Choice(
        "partition", list(PARTITION_PRESETS), default=defaults.partition
    )
    space.Choice("vector_size", [8, 16, 32], default=defaults.vector_size)
    space.Int("num_inner_steps", 1, 8, default=defaults.num_inner_steps)
    space.Float("item_l2", 1e-5, 1e-3, sampling="log", default=defaults.item_l2)
    space.Float("dropout", 0.0, 0.5, step=0.1, default=defaults.dropout)
    space.Float(
        "outer_lr", 5e-4, 5e-3, sampling="log", default=defaults.outer_lr
    )
    return space


class MetaTuner(keras_tuner.Tuner):
    """A Keras Tuner whose trials are runs of the offline stage."""

    def __init__(
        self, data: StageData, base: dict[str, Any], **kwargs: Any
    ) -> None:
        """Makes the tuner.

        Args:
            data: What trials train on and are judged by.
            base: Hyper-parameters that are not searched.
            **kwargs: Of the base class.
        """
        super().__init__(**kwargs)
        self._data = data
        self._base = base

    def run_trial(
        self, trial: Any, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Trains once; the figure is what training is stopped by."""
        del args, kwargs
        values = {**trial.hyperparameters.values, **self._base}
        _, result = train_offline(self._data, TrainerConfig.from_dict(values))
        return {OBJECTIVE: adapted_objective(result.figures)}

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Searches.

        Raises:
            TuningError: No trial came to its end. Keras Tuner itself would
                hand out hyper-parameters that nobody tried.
        """
        try:
            super().search(*args, **kwargs)
        except RuntimeError as error:
            # Some trials failed in a row; those that ended before still count.
            _LOG.warning("The search ended early: %s", error)
        trials = self.oracle.trials.values()
        if not any(trial.status == "COMPLETED" for trial in trials):
            message = next((t.message for t in trials if t.message), "")
            raise TuningError(
                f"None of {len(trials)} trials came to its end; one said: "
                f"{message.strip() or 'nothing'}"
            )


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Makes the tuner.

    Args:
        fn_args: TFX's arguments; `custom_config` as in `trainer.run_fn`.
    """
    custom = fn_args.custom_config
    data = StageData.read(
        train_patterns=fn_args.train_files,
        valid_patterns=fn_args.eval_files,
        transform_output=tft.TFTransformOutput(fn_args.transform_graph_path),
        user_features=custom["user_features"],
        item_features=custom["item_features"],
    )
    overrides = dict(custom.get("overrides", {}))
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        max_trials=_MAX_TRIALS,
        hyperparameters=search_space(),
        tune_new_entries=False,
        seed=int(overrides.get("seed", 0)),
    )
    tuner = MetaTuner(
        data,
        overrides,
        oracle=oracle,
        directory=fn_args.working_dir,
        project_name=_PROJECT,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})
