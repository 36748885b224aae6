"""What TFX calls, from episodes on disk to a SavedModel and to a search."""

import json
import logging

import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from serving.contract.manifest import AdaptiveManifest
from tests.helpers import raw_examples
from tests.trainer.test_checkpoints import KilledError, killed_at
from trainer import tuner_fn
from trainer.config import TrainerConfig
from trainer.errors import TrainerConfigError, TuningError
from trainer.run_fn import RESULT_FILE, run_fn
from trainer.stages import StageData

TINY = {
    "vector_size": 2,
    "hidden_size": 4,
    "feature_size": 2,
    "num_inner_steps": 1,
    "meta_batch_size": 4,
    "max_steps": 2,
    "steps_per_evaluation": 1,
}


def fn_args(tiny_episodes, folder, regime="offline", overrides=None, **kwargs):
    return FnArgs(
        train_files=[tiny_episodes.pattern("meta_train")],
        eval_files=[tiny_episodes.pattern("meta_valid")],
        transform_graph_path=str(tiny_episodes.graph),
        serving_model_dir=str(folder / "model"),
        model_run_dir=str(folder / "logs"),
        working_dir=str(folder),
        custom_config={
            **raw_examples.features_config(),
            "regime": regime,
            "overrides": TINY if overrides is None else overrides,
        },
        **kwargs,
    )


def check_run(folder, regime, name, adaptive):
    """What every run leaves behind; returns the manifest."""
    manifest = AdaptiveManifest.load(folder / "model")
    assert manifest.model_name == name
    assert manifest.num_adaptive == adaptive
    result = json.loads((folder / "logs" / RESULT_FILE).read_text())
    assert result["regime"] == regime
    assert result["fingerprint"] == manifest.fingerprint
    assert result["steps"] == 2
    assert result["bytes_per_user"] == 4 * adaptive
    assert set(result["meta_valid_auc"]) == {"joint", "offline", "online"}
    loaded = tf.saved_model.load(str(folder / "model"))
    assert set(loaded.signatures) >= {"rank", "recommend", "adapt"}
    return manifest


@pytest.mark.slow
def test_offline_run_takes_what_the_tuner_found_below_overrides(
    tiny_episodes, tmp_path
):
    found = keras_tuner.HyperParameters()
    found.Fixed("num_inner_steps", 2)
    found.Fixed("partition", "user_bias")
    found.Fixed("tuner/epochs", 3)
    overrides = {k: v for k, v in TINY.items() if k != "num_inner_steps"}
    overrides["partition"] = "user_offset"
    run_fn(
        fn_args(
            tiny_episodes,
            tmp_path,
            overrides=overrides,
            hyperparameters=found.get_config(),
        )
    )
    manifest = check_run(tmp_path, "offline", "adaptower", adaptive=3)
    assert any(manifest.meta_init)
    assert manifest.inner_loop["num_inner_steps"] == 2


@pytest.fixture(scope="module")
def joint_run(tiny_episodes, tmp_path_factory):
    """Folder of a joint run that was killed twice, and its first words."""
    folder = tmp_path_factory.mktemp("joint")

    def args(**overrides):
        made = fn_args(tiny_episodes, folder, "joint", TINY | overrides)
        made.custom_config["state_dir"] = str(folder / "state")
        return made

    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("trainer.progress")
    # Somebody gave up on a training with another step size.
    for overrides in ({"outer_lr": 0.1}, {}):
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, evaluation=2)
            with pytest.raises(KilledError):
                run_fn(args(**overrides))
    assert len(list((folder / "state" / "joint").iterdir())) == 2
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    run_fn(args())
    logger.removeHandler(handler)
    return folder, messages


@pytest.mark.slow
def test_joint_run_learns_no_meta_initialization(joint_run):
    manifest = check_run(joint_run[0], "joint", "joint", adaptive=3)
    assert not any(manifest.meta_init)


@pytest.mark.slow
@pytest.mark.fault
def test_killed_run_goes_on_where_it_was_and_clears_up(joint_run):
    folder, messages = joint_run
    assert messages[0] == "going on from the checkpoint of step 1"
    assert not any((folder / "state").iterdir())


def test_unknown_regime_is_refused_before_anything_is_read(
    tiny_episodes, tmp_path
):
    with pytest.raises(TrainerConfigError, match=r"'online'.*offline, joint"):
        run_fn(fn_args(tiny_episodes, tmp_path, regime="online"))
    assert not any(tmp_path.iterdir())


def make_tuner(tiny_episodes, folder, base, trials=2):
    data = StageData.read(
        [tiny_episodes.pattern("meta_train")],
        [tiny_episodes.pattern("meta_valid")],
        tft.TFTransformOutput(str(tiny_episodes.graph)),
        **raw_examples.features_config(),
    )
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective(tuner_fn.OBJECTIVE, "max"),
        max_trials=trials,
        hyperparameters=tuner_fn.search_space(),
        tune_new_entries=False,
        seed=1,
    )
    return tuner_fn.MetaTuner(
        data, base, oracle=oracle, directory=str(folder), project_name="tiny"
    )


@pytest.mark.slow
def test_search_returns_the_better_of_the_tried_ones(tiny_episodes, tmp_path):
    tuner = make_tuner(tiny_episodes, tmp_path, {**TINY, "max_steps": 1})
    tuner.search()
    trials = tuner.oracle.trials.values()
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2
    [best] = tuner.get_best_hyperparameters()
    assert (
        best.values == max(trials, key=lambda t: t.score).hyperparameters.values
    )
    assert all(np.isfinite(trial.score) for trial in trials)
    # What TFX hands on to the Trainer.
    config = keras_tuner.HyperParameters.from_config(best.get_config())
    TrainerConfig.from_dict(config.values)


@pytest.mark.parametrize("trials", [2, 5])
def test_search_in_which_every_trial_fails_finds_nothing(
    tiny_episodes, tmp_path, trials
):
    """Five are more failures in a row than Keras Tuner itself puts up with."""
    tuner = make_tuner(tiny_episodes, tmp_path, {"outer_lr": -1}, trials)
    with pytest.raises(TuningError, match="outer_lr is -1"):
        tuner.search()


def test_failures_in_a_row_do_not_undo_a_trial_that_ended(
    tiny_episodes, tmp_path, monkeypatch
):
    tuner = make_tuner(tiny_episodes, tmp_path, {}, trials=6)
    scores = iter([0.5])

    def run_trial(trial):
        return {tuner_fn.OBJECTIVE: next(scores)}

    monkeypatch.setattr(tuner, "run_trial", run_trial)
    tuner.search()
    [best] = tuner.get_best_hyperparameters()
    first = tuner.oracle.trials[tuner.oracle.start_order[0]]
    assert best.values == first.hyperparameters.values


def test_searched_names_are_hyper_parameters_with_their_defaults():
    defaults = TrainerConfig()
    values = tuner_fn.search_space().values
    assert TrainerConfig.from_dict(values) == defaults


def test_tuner_is_made_of_tfx_arguments(tiny_episodes, tmp_path):
    result = tuner_fn.tuner_fn(fn_args(tiny_episodes, tmp_path))
    assert isinstance(result.tuner, tuner_fn.MetaTuner)
    assert result.fit_kwargs == {}
    assert result.tuner.project_dir.startswith(str(tmp_path))
