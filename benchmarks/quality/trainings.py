"""One training each, and the regimes that its model is scored under.

Several regimes may share a training: `offline` and `online` are one model,
learned from once or always. Names of what is scored:

    joint                  features alone
    joint_finetune         our inner loop on joint's model, first support set
    joint_finetune_online  the same after every window
    offline                ours, first support set
    online_per_user        ours, every window, the meta state standing still
    online                 ours, every window, the meta state learning, too
    history_offline        pooled first support set
    history                pooled history
    maml_all_offline       all parameters, first support set
    maml_all               all parameters, on all that is known
    popularity, item_mean  the same for everybody
    oracle                 retrained before every window
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.quality.inputs import Inputs
from benchmarks.quality.online import score_online_stage
from benchmarks.quality.outcome import (
    Outcome,
    adapt_seconds,
    first_user,
    partition_map,
    quality,
)
from trainer.baselines import item_statistics
from trainer.baselines.fast_weights import floats_per_user
from trainer.baselines.finetune import draw_settings, try_inner_loops
from trainer.baselines.oracle import oracle_scores
from trainer.baselines.retrained_two_tower import RetrainSettings
from trainer.baselines.stages import train_history, train_maml_all
from trainer.config import TrainerConfig
from trainer.partition import BYTES_PER_VALUE
from trainer.scorer import Learning, Scorer, TwoTowerScorer, score_stream
from trainer.stages import train_joint, train_offline
from trainer.stream_validation import StreamValidation
from trainer.training import adapted_objective, zero_shot_objective

FINETUNE_TRIALS = 40
_PRIOR_ROWS = (1.0, 3.0, 10.0, 30.0, 100.0)

Values = Mapping[str, Any]


def _joint(
    inputs: Inputs, values: Values, score: bool, log_dir: str
) -> Outcome:
    config = TrainerConfig.from_dict(values)
    start = time.perf_counter()
    model, result = train_joint(inputs.data, config, log_dir)
    outcome = Outcome.of_training(
        result, zero_shot_objective(result.figures), start
    )
    if score:
        data = inputs.data
        scorer = TwoTowerScorer(model, data.catalog)
        outcome.add_stream(inputs.test, scorer, {"joint": Learning.NEVER})
        outcome.add_few_shot(inputs.test, scorer, "joint")
        # Nothing is learned: every k gets what k = 0 gets.
        zero = outcome.few_shot["joint"][0]
        outcome.few_shot["joint"] = dict.fromkeys(inputs.test.few_shot, zero)
        validation = StreamValidation(
            model,
            data.meta_valid,
            data.space,
            data.catalog,
            config.max_validation_users,
        )
        trials = try_inner_loops(
            model, validation, draw_settings(FINETUNE_TRIALS, config.seed)
        )
        outcome.info["inner_loop_trials"] = [
            dataclasses.asdict(trial) for trial in trials
        ]
        outcome.info["bytes_per_user"] = model.partition.bytes_per_user
        max(trials, key=lambda trial: trial.online).settings.apply(model)
        online = {"joint_finetune_online": Learning.ALWAYS}
        outcome.add_stream(inputs.test, scorer, online)
        max(trials, key=lambda trial: trial.offline).settings.apply(model)
        once = {"joint_finetune": Learning.ONCE}
        outcome.add_stream(inputs.test, scorer, once)
        outcome.add_few_shot(inputs.test, scorer, "joint_finetune")
    return outcome


def _meta(inputs: Inputs, values: Values, score: bool, log_dir: str) -> Outcome:
    config = TrainerConfig.from_dict(values)
    start = time.perf_counter()
    model, result = train_offline(inputs.data, config, log_dir)
    outcome = Outcome.of_training(
        result, adapted_objective(result.figures), start
    )
    outcome.info["bytes_per_user"] = model.partition.bytes_per_user
    if score:
        scorer = TwoTowerScorer(model, inputs.data.catalog)
        outcome.info["adapt_seconds"] = adapt_seconds(scorer, inputs.test)
        outcome.info["partition_map"] = partition_map(model)
        outcome.add_stream(
            inputs.test,
            scorer,
            {"offline": Learning.ONCE, "online_per_user": Learning.ALWAYS},
        )
        outcome.add_few_shot(inputs.test, scorer, "offline")
        outcome.stream["online"] = score_online_stage(inputs, model, outcome)
    return outcome


def _history(
    inputs: Inputs, values: Values, score: bool, log_dir: str
) -> Outcome:
    config = TrainerConfig.from_dict(values)
    start = time.perf_counter()
    scorer, result = train_history(inputs.data, config, log_dir)
    outcome = Outcome.of_training(
        result, adapted_objective(result.figures), start
    )
    # The user's vector and bias; or the events, which are stored anyway.
    outcome.info["bytes_per_user"] = BYTES_PER_VALUE * (config.vector_size + 1)
    if score:
        _add_adapted(outcome, inputs, scorer, "history")
    return outcome


def _maml_all(
    inputs: Inputs, values: Values, score: bool, log_dir: str
) -> Outcome:
    config = TrainerConfig.from_dict(values)
    start = time.perf_counter()
    scorer, result = train_maml_all(inputs.data, config, log_dir)
    outcome = Outcome.of_training(
        result, adapted_objective(result.figures), start
    )
    if score:
        ids, support = first_user(inputs.test)
        fast = scorer.learn(scorer.begin(ids), support).fast
        outcome.info["bytes_per_user"] = BYTES_PER_VALUE * floats_per_user(
            fast, support.weight.shape[1]
        )
        _add_adapted(outcome, inputs, scorer, "maml_all")
    return outcome


def _add_adapted(
    outcome: Outcome, inputs: Inputs, scorer: Scorer, name: str
) -> None:
    """Scores meta_test with what learns once, and with what always does."""
    outcome.info["adapt_seconds"] = adapt_seconds(scorer, inputs.test)
    outcome.add_stream(
        inputs.test,
        scorer,
        {f"{name}_offline": Learning.ONCE, name: Learning.ALWAYS},
    )
    outcome.add_few_shot(inputs.test, scorer, name)


def _items(
    inputs: Inputs, values: Values, score: bool, log_dir: str
) -> Outcome:
    del values, log_dir
    data = inputs.data
    positives, rows = item_statistics.count_labels(
        data.meta_train, data.catalog
    )
    means = [
        item_statistics.item_mean(positives, rows, prior)
        for prior in _PRIOR_ROWS
    ]
    valid = inputs.valid
    values_of = [
        quality(
            valid,
            valid.flat(
                score_stream(
                    scorer, valid.users.ids, valid.steps, [Learning.NEVER]
                )[Learning.NEVER]
            ),
        )
        for scorer in means
    ]
    best = int(np.argmax(values_of))
    outcome = Outcome(
        values_of[best],
        {"prior_rows": _PRIOR_ROWS[best], "bytes_per_user": 0, "seconds": 0.0},
    )
    if score:
        for name, scorer in (
            ("popularity", item_statistics.popularity(positives)),
            ("item_mean", means[best]),
        ):
            outcome.add_stream(inputs.test, scorer, {name: Learning.NEVER})
            outcome.add_few_shot(inputs.test, scorer, name)
    return outcome


def _oracle(
    inputs: Inputs, values: Values, score: bool, log_dir: str
) -> Outcome:
    del log_dir
    names = {field.name for field in dataclasses.fields(RetrainSettings)}
    settings = RetrainSettings(
        **{name: v for name, v in values.items() if name in names}
    )
    config = TrainerConfig.from_dict(
        {name: v for name, v in values.items() if name not in names}
    )
    judged = inputs.test if score else inputs.valid
    start = time.perf_counter()
    scores = judged.flat(
        oracle_scores(inputs.data, judged.users, judged.steps, config, settings)
    )
    outcome = Outcome(
        np.nan,
        {
            "seconds": time.perf_counter() - start,
            "settings": dataclasses.asdict(settings),
            "bytes_per_user": BYTES_PER_VALUE * (config.vector_size + 1),
        },
    )
    if score:
        outcome.stream["oracle"] = scores
    else:
        outcome.value = quality(judged, scores)
    return outcome


# Takes inputs, hyper-parameters by name, whether to score meta_test, and a
# folder for TensorBoard.
TRAININGS: Mapping[str, Callable[[Inputs, Values, bool, str], Outcome]] = {
    "joint": _joint,
    "meta": _meta,
    "history": _history,
    "maml_all": _maml_all,
    "items": _items,
    "oracle": _oracle,
}
