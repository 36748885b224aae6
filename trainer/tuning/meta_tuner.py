"""The Keras Tuner whose trials are runs of the offline stage."""

import contextlib
import functools
import io
import logging
import os
import pathlib
import shutil
import time
from typing import Any

import keras_tuner

from trainer.config import TrainerConfig
from trainer.errors import (
    EpisodeDataError,
    PartitionError,
    TrainerConfigError,
    TuningError,
)
from trainer.few_shot_validation import few_shot_figures
from trainer.progress import RESULTS
from trainer.scorer import TwoTowerScorer
from trainer.stages import StageData, train_offline
from trainer.tuning import trials
from trainer.tuning.options import HYPERBAND
from trainer.tuning.oracles import OBJECTIVE, make_oracle
from trainer.tuning.request import SearchRequest
from trainer.tuning.search_space import search_space, searched_values
from trainer.tuning.trials import TrialResult
from trainer.two_tower import PartitionedTwoTower

# What an oracle is told of a trial without figures: as good as tossing a
# coin. Told nothing, a Gaussian process would propose its like for ever.
_NO_SCORE = 0.5
_CHECKPOINTS = "checkpoints"

_LOG = logging.getLogger(__name__)


# Keras Tuner's: set in all processes of a search that has several.
_ORACLE_IP = "KERASTUNER_ORACLE_IP"


class MetaTuner(keras_tuner.Tuner):
    """Searches; goes on with what its folder holds of an earlier process."""

    def __init__(self, request: SearchRequest) -> None:
        """Makes the tuner; data are read when the first trial begins.

        Args:
            request: What is searched.

        Raises:
            TrainerConfigError: The values that the search starts from can't
                be.
        """
        self._request = request
        space = search_space(
            request.base, request.options.budget_bytes, request.overrides
        )
        # Keras Tuner prints whether it reloads.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(
                oracle=make_oracle(request.options, space, request.base),
                directory=request.directory,
                project_name=request.project,
            )
        # It looks for a file of this process's own id alone, and the earlier
        # one may have had another.
        state = request.folder / "oracle.json"
        own = request.folder / f"{self.tuner_id}.json"
        is_here = isinstance(self.oracle, keras_tuner.Oracle)
        if state.exists() and not own.exists() and is_here:
            self.oracle.reload()

    @functools.cached_property
    def _data(self) -> StageData:
        return self._request.read_data()

    def on_search_begin(self) -> None:
        """Makes sure that a kill in the first trial can be gone on from."""
        super().on_search_begin()
        self.save()

    def run_trial(
        self, trial: Any, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Trains and judges once, unless it can't be or takes too much room.

        What became of it is left in the trial's folder.

        Raises:
            FatalError: The data can't be trained on or judged by.
        """
        del args, kwargs
        start = time.monotonic()
        values = trial.hyperparameters.values
        folder = pathlib.Path(self.get_trial_dir(trial.trial_id))
        earlier = trials.read_trial(folder)
        if earlier is not None:
            # It ended right before a kill, unknown to Keras Tuner's files.
            return _reported(earlier)
        known: dict[str, Any] = {}
        try:
            config = self._config(values)
            # Cheap, and refuses a partition over the budget.
            PartitionedTwoTower(self._data.space, config)
            known |= self._train(trial.trial_id, values, config)
            status = trials.COMPLETED
        except (TrainerConfigError, PartitionError) as error:
            status, known["message"] = trials.INVALID, str(error)
        except EpisodeDataError as error:
            # No other trial would fare better.
            raise keras_tuner.errors.FatalError(str(error)) from error
        except Exception as error:
            _LOG.exception("Trial %s failed.", trial.trial_id)
            message = f"{type(error).__name__}: {error}"
            status, known["message"] = trials.FAILED, message
        result = TrialResult(
            trial_id=trial.trial_id,
            status=status,
            values=searched_values(values),
            seconds=time.monotonic() - start,
            **known,
        )
        result.save(folder)
        RESULTS.info("%s", result)
        return _reported(result)

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Searches.

        Raises:
            TuningError: No trial came to its end. Keras Tuner itself would
                hand out hyper-parameters that nobody tried.
        """
        alone = _ORACLE_IP not in os.environ
        super().search(*args, **{"verbose": 0, **kwargs})
        if alone:
            best_trial(self._request)

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints nothing: TFX asks for it in the middle of other output."""

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints nothing; see `trainer.tuning.trials`."""

    def get_best_hyperparameters(
        self, num_trials: int = 1
    ) -> list[keras_tuner.HyperParameters]:
        """The best of those that were trained and judged."""
        judged = [
            self.oracle.get_trial(result.trial_id).hyperparameters
            for result in trials.read_trials(self._request.folder)
            if result.status == trials.COMPLETED
        ]
        return judged[:num_trials]

    def _config(self, values: dict[str, Any]) -> TrainerConfig:
        request = self._request
        chosen = {
            **request.training,
            **searched_values(values),
            **request.overrides,
        }
        epochs = values.get("tuner/epochs")
        if epochs:
            steps = epochs * request.base.steps_per_evaluation
            chosen["max_steps"] = min(steps, request.base.max_steps)
        return TrainerConfig.from_dict(chosen)

    def _train(
        self, trial_id: str, values: dict[str, Any], config: TrainerConfig
    ) -> dict[str, Any]:
        """Trains and judges; returns what `TrialResult` holds of it."""
        folder = pathlib.Path(self.get_trial_dir(trial_id)) / _CHECKPOINTS
        earlier = values.get("tuner/trial_id")
        if earlier and not folder.exists():
            # The same values of an earlier round, which now train on.
            source = pathlib.Path(self.get_trial_dir(earlier)) / _CHECKPOINTS
            partial = folder.with_suffix(".partial")
            shutil.copytree(source, partial, dirs_exist_ok=True)
            partial.rename(folder)
        model, result = train_offline(
            self._data, config, checkpoint_dir=str(folder)
        )
        if self._request.options.oracle != HYPERBAND:
            shutil.rmtree(folder)
        few_shot = few_shot_figures(
            TwoTowerScorer(model, self._data.catalog),
            self._data.meta_valid,
            self._data.space,
            config.max_validation_users,
        )
        return {
            **trials.few_shot_columns(few_shot),
            "bytes_per_user": model.partition.bytes_per_user,
            "stream_auc": result.figures.auc,
            "stream_wgauc": result.figures.wgauc,
            "best_step": result.best_step,
            "steps": result.steps,
        }


def _reported(result: TrialResult) -> dict[str, float]:
    return {OBJECTIVE: _NO_SCORE if result.score is None else result.score}


def best_trial(request: SearchRequest) -> TrialResult:
    """The best trial of a search.

    Raises:
        TuningError: None came to its end.
    """
    found = trials.read_trials(request.folder)
    judged = [trial for trial in found if trial.status == trials.COMPLETED]
    if not judged:
        message = next((t.message for t in found if t.message), "nothing")
        raise TuningError(
            f"None of {len(found)} trials came to its end; one said: {message}"
        )
    return judged[0]
