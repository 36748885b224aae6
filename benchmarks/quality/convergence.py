"""How many outer steps until a training is as good as `joint` ever gets."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.config import TrainerConfig

# What of each training's figures on meta_valid is compared.
_FIGURE = {
    "joint": "auc_joint",
    "meta": "auc_offline",
    "maml_all": "auc_offline",
    "history": "auc_offline",
}
_TAG = "epoch_meta_valid/{}"


def auc_by_step(
    folder: pathlib.Path, training: str, values: Mapping[str, Any]
) -> dict[int, float]:
    """AUC on meta_valid after so many outer steps.

    Args:
        folder: Of the cell; TensorBoard's events lie in it.
        training: Which training it is.
        values: Its hyper-parameters.
    """
    config = TrainerConfig.from_dict(values)
    tag = _TAG.format(_FIGURE[training])
    found = {}
    for path in sorted((folder / "tensorboard").rglob("*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == tag:
                    auc = tf.make_ndarray(value.tensor).item()
                    step = (event.step + 1) * config.steps_per_evaluation
                    found[min(step, config.max_steps)] = auc
    return found


def steps_to_quality(
    curves: Mapping[str, Sequence[Mapping[int, float]]],
) -> dict[str, Any]:
    """Outer steps to the best AUC that `joint` reaches, seed by seed.

    Args:
        curves: By training, what `auc_by_step` gives for each seed.

    Returns:
        `target` by seed, and by training the steps by seed; None where it is
        never reached.
    """
    targets = [max(curve.values()) for curve in curves["joint"]]
    return {"target": targets} | {
        training: [
            next((s for s, auc in sorted(curve.items()) if auc >= target), None)
            for curve, target in zip(of, targets, strict=False)
        ]
        for training, of in curves.items()
    }
