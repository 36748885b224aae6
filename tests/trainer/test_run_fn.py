"""What TFX calls, from episodes on disk to a SavedModel and to a search."""

import json
import logging

import keras_tuner
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from serving.contract.manifest import AdaptiveManifest
from tests.helpers import raw_examples
from tests.trainer.test_checkpoints import KilledError, killed_at
from trainer import tuner_fn
from trainer.errors import TrainerConfigError
from trainer.run_fn import RESULT_FILE, run_fn

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
def test_what_the_tuner_found_is_above_the_dataset_and_below_overrides(
    tiny_episodes, tmp_path
):
    found = keras_tuner.HyperParameters()
    found.Fixed("num_inner_steps", 2)
    found.Fixed("partition", "user_bias")
    found.Fixed("tuner/epochs", 3)
    overrides = {k: v for k, v in TINY.items() if k != "num_inner_steps"}
    overrides["partition"] = "user_offset"
    args = fn_args(
        tiny_episodes,
        tmp_path,
        overrides=overrides,
        hyperparameters=found.get_config(),
    )
    args.custom_config["training"] = {"num_inner_steps": 7}
    run_fn(args)
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


def test_tuner_is_made_of_tfx_arguments(tiny_episodes, tmp_path):
    args = fn_args(tiny_episodes, tmp_path / "tmp")
    args.custom_config |= {
        "state_dir": str(tmp_path / "state"),
        "training": {"dropout": 0.4},
        "tuning": {"max_trials": 3},
    }
    result = tuner_fn.tuner_fn(args)
    assert result.fit_kwargs == {}
    assert result.tuner.project_dir.startswith(str(tmp_path / "state"))
    assert result.tuner.oracle.max_trials == 3
    searched = result.tuner.oracle.get_space().values
    assert searched["dropout"] == 0.4
    assert not searched.keys() & TINY.keys()


def test_without_a_state_dir_trials_are_where_tfx_wants_them(
    tiny_episodes, tmp_path
):
    result = tuner_fn.tuner_fn(fn_args(tiny_episodes, tmp_path))
    assert result.tuner.project_dir.startswith(str(tmp_path))
