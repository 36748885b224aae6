"""The search, with trainings that are only pretended, and one real one."""

import dataclasses
import json

import keras_tuner
import numpy as np
import pytest

from tests.trainer.tuning.requests import TINY, make_request, with_trials
from trainer.config import TrainerConfig
from trainer.errors import (
    DivergenceError,
    EpisodeDataError,
    TrainerConfigError,
    TuningError,
)
from trainer.few_shot_validation import FewShotFigures
from trainer.stream_validation import StreamFigures
from trainer.training import TrainingResult
from trainer.tuning import meta_tuner
from trainer.tuning.meta_tuner import MetaTuner, best_trial
from trainer.tuning.options import TuningOptions
from trainer.tuning.trials import COMPLETED, FAILED, INVALID, read_trials
from trainer.two_tower import PartitionedTwoTower

# As a killed process ends: nothing above it gets to say anything.
KILL = KeyboardInterrupt


@pytest.fixture
def trained(monkeypatch):
    """Trainings are pretended; `on_training` may be replaced."""

    class Trained:
        configs = ()
        folders = ()

        def on_training(self, config):
            """Nothing happens."""

        def train(self, data, config, checkpoint_dir):
            self.on_training(config)
            self.configs += (config,)
            self.folders += (checkpoint_dir,)
            folder = meta_tuner.pathlib.Path(checkpoint_dir)
            folder.mkdir(exist_ok=True)
            (folder / str(len(self.configs))).touch()
            figures = StreamFigures({"online": 0.5}, {"online": 0.5})
            return PartitionedTwoTower(data.space, config), TrainingResult(
                figures, config.max_steps, config.max_steps
            )

    trained = Trained()
    monkeypatch.setattr(meta_tuner, "train_offline", trained.train)
    monkeypatch.setattr(
        meta_tuner,
        "few_shot_figures",
        lambda *args: FewShotFigures(
            {1: 0.6 + trained.configs[-1].dropout}, {1: 0.6}
        ),
    )
    return trained


@pytest.mark.slow
def test_best_trial_is_the_one_with_the_best_few_shot_figures(
    tiny_episodes, tmp_path
):
    request = make_request(tiny_episodes, tmp_path)
    tuner = MetaTuner(request)
    tuner.search()
    first, second = read_trials(request.folder)
    assert {first.status, second.status} == {COMPLETED}
    assert first.score >= second.score
    for trial in (first, second):
        figures = [
            *trial.few_shot_auc.values(),
            *trial.few_shot_wgauc.values(),
        ]
        assert set(trial.few_shot_auc) == {"0", "1", "3", "5", "10", "20"}
        assert trial.score == pytest.approx(np.mean(figures))
        assert trial.bytes_per_user == 12
        assert trial.steps == 1
        assert not list(request.folder.glob("trial_*/checkpoints"))
    # What TFX hands on to the Trainer.
    [best] = tuner.get_best_hyperparameters()
    found = keras_tuner.HyperParameters.from_config(best.get_config())
    assert found.values == first.values
    TrainerConfig.from_dict(found.values)


@pytest.mark.parametrize("oracle", ["random", "bayesian"])
def test_trial_over_the_budget_is_refused_and_the_search_goes_on(
    tiny_episodes, tmp_path, trained, oracle
):
    free = {name: v for name, v in TINY.items() if name != "partition"}
    request = make_request(
        tiny_episodes,
        tmp_path,
        free,
        max_trials=6,
        budget_bytes=8,
        oracle=oracle,
    )
    tuner = MetaTuner(request)
    tuner.search()
    found = read_trials(request.folder)
    assert len(found) == 6
    refused = [trial for trial in found if trial.status == INVALID]
    assert refused
    for trial in refused:
        assert "bytes per user, the budget" in trial.message
        assert trial.values["partition"] not in ("user_bias", "learned")
    assert len(trained.configs) == 6 - len(refused)
    for config in trained.configs:
        # One number is 4 bytes; `learned` is cut to the budget later on.
        assert config.partition in ("user_bias", "learned")
        assert config.max_bytes_per_user == 8
    best = max(trained.configs, key=lambda config: config.dropout)
    [values] = tuner.get_best_hyperparameters()
    assert values["dropout"] == best.dropout


def test_search_in_which_nothing_fits_the_budget_says_so(
    tiny_episodes, tmp_path, trained
):
    request = make_request(tiny_episodes, tmp_path, budget_bytes=1)
    with pytest.raises(TuningError, match=r"None of 2 trials.* budget"):
        MetaTuner(request).search()
    assert not trained.configs


def test_value_that_can_not_be_is_refused_before_the_search(
    tiny_episodes, tmp_path
):
    request = make_request(tiny_episodes, tmp_path, {"outer_lr": -1})
    with pytest.raises(TrainerConfigError, match="outer_lr is -1"):
        MetaTuner(request)


def test_trainings_that_diverge_do_not_end_the_search(
    tiny_episodes, tmp_path, trained
):
    """Five are more failures in a row than Keras Tuner itself puts up with."""

    def diverge(config):
        if len(list(request.folder.glob("trial_*"))) <= 5:
            raise DivergenceError("The loss is nan.")

    trained.on_training = diverge
    request = make_request(tiny_episodes, tmp_path, max_trials=6)
    MetaTuner(request).search()
    statuses = [trial.status for trial in read_trials(request.folder)]
    assert statuses == [COMPLETED] + [FAILED] * 5
    failed = read_trials(request.folder)[-1]
    assert failed.message == "DivergenceError: The loss is nan."


def test_data_that_can_not_be_judged_end_the_search_at_once(
    tiny_episodes, tmp_path, trained
):
    def refuse(config):
        raise EpisodeDataError("No window holds both classes.")

    trained.on_training = refuse
    request = make_request(tiny_episodes, tmp_path)
    with pytest.raises(keras_tuner.errors.FatalError, match="No window") as e:
        MetaTuner(request).search()
    assert isinstance(e.value.__cause__, EpisodeDataError)
    assert len(list(request.folder.glob("trial_*"))) == 1


@pytest.mark.fault
def test_killed_search_runs_no_trial_again_that_had_ended(
    tiny_episodes, tmp_path, trained
):
    request = make_request(tiny_episodes, tmp_path, max_trials=5)

    def kill(config):
        if len(trained.configs) == 2:
            raise KILL

    trained.on_training = kill
    with pytest.raises(KILL):
        MetaTuner(request).search()
    ended = trained.configs
    [interrupted] = [
        json.loads((folder / "trial.json").read_text())
        for folder in request.folder.glob("trial_*")
        if not (folder / "result.json").exists()
    ]
    del trained.on_training
    MetaTuner(request).search()
    assert len(trained.configs) == 5
    assert trained.configs[:2] == ended
    assert len(set(trained.configs)) == 5
    # The trial that was killed is run, with the values that it had.
    again = dataclasses.asdict(trained.configs[2])
    assert interrupted["hyperparameters"]["values"].items() <= again.items()
    assert len(read_trials(request.folder)) == 5


def test_search_with_more_trials_goes_on(tiny_episodes, tmp_path, trained):
    request = make_request(tiny_episodes, tmp_path)
    MetaTuner(request).search()
    MetaTuner(with_trials(request, 3)).search()
    assert len(trained.configs) == 3


@pytest.mark.parametrize(
    "change", [{"overrides": {}}, {"code_fingerprint": "0"}, {"training": {}}]
)
def test_search_of_something_else_is_another_search(
    tiny_episodes, tmp_path, change
):
    request = dataclasses.replace(
        make_request(tiny_episodes, tmp_path), training={"dropout": 0.3}
    )
    assert dataclasses.replace(request, **change).project != request.project
    other = dataclasses.replace(request.options, budget_bytes=9)
    assert (
        dataclasses.replace(request, options=other).project != request.project
    )
    assert with_trials(request, 7).project == request.project


def test_hyperband_trains_the_best_on_from_their_checkpoints(
    tiny_episodes, tmp_path, trained
):
    overrides = {**TINY, "max_steps": 9, "steps_per_evaluation": 1}
    request = make_request(
        tiny_episodes, tmp_path, overrides, max_trials=30, oracle="hyperband"
    )
    MetaTuner(request).search()
    # Of the most aggressive bracket: 1, 3 and 9 evaluations.
    steps = [config.max_steps for config in trained.configs]
    assert set(steps) == {1, 3, 9}
    assert steps[0] == 1
    second_round = steps.index(3)
    values = {
        dataclasses.replace(config, max_steps=1)
        for config in trained.configs[:second_round]
    }
    further = dataclasses.replace(trained.configs[second_round], max_steps=1)
    assert further in values
    folder = meta_tuner.pathlib.Path(trained.folders[second_round])
    first_round = 1 + [
        dataclasses.replace(c, max_steps=1) for c in trained.configs
    ].index(further)
    assert {path.name for path in folder.iterdir()} >= {
        str(first_round),
        str(second_round + 1),
    }


def test_hyperband_takes_no_more_steps_than_given(
    tiny_episodes, tmp_path, trained
):
    overrides = {**TINY, "max_steps": 3, "steps_per_evaluation": 50}
    request = make_request(
        tiny_episodes, tmp_path, overrides, max_trials=2, oracle="hyperband"
    )
    MetaTuner(request).search()
    assert {config.max_steps for config in trained.configs} == {3}


def test_best_trial_of_an_empty_folder_is_an_error(tiny_episodes, tmp_path):
    with pytest.raises(TuningError, match="None of 0 trials"):
        best_trial(make_request(tiny_episodes, tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"oracle": "delphi"}, "'delphi'.*bayesian, hyperband, random"),
        ({"max_trials": 0}, "max_trials"),
        ({"budget_bytes": 0}, "budget_bytes"),
    ],
)
def test_options_that_can_not_be_are_refused(options, message):
    with pytest.raises(TrainerConfigError, match=message):
        TuningOptions(**options)
