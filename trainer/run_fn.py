"""What TFX's Trainer calls: trains one regime and exports its model."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from serving.contract.regimes import JOINT
from trainer.config import REGIMES, TrainerConfig
from trainer.errors import TrainerConfigError
from trainer.export import export_model
from trainer.learned_partition import AdaptiveMap
from trainer.progress import RESULTS
from trainer.stages import StageData, train_joint, train_offline
from trainer.tuning.search_space import searched_values

# Written beside the TensorBoard events.
RESULT_FILE = "training.json"
ADAPTOWER = "adaptower"


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports.

    Args:
        fn_args: TFX's arguments; `custom_config` has `regime` (`offline` or
            `joint`), `user_features`, `item_features`, and maybe `training`
            (hyper-parameters that the dataset suggests), `overrides` (those
            that a person gave), `draw_weights` (of mixed logs) and
            `state_dir`: a folder that outlives a killed execution, whose
            training then goes on from there. Hyper-parameters that the Tuner
            found come between `training` and `overrides`.

    Raises:
        TrainerError: Of the configuration, the data or the training.
    """
    custom = fn_args.custom_config
    regime = custom["regime"]
    if regime not in REGIMES:
        raise TrainerConfigError(
            f"There is no regime {regime!r}; use one of {', '.join(REGIMES)}."
        )
    config = TrainerConfig.from_dict(
        {
            **custom.get("training", {}),
            **_tuned(fn_args),
            **custom.get("overrides", {}),
        }
    )
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    data = StageData.read(
        train_patterns=fn_args.train_files,
        valid_patterns=fn_args.eval_files,
        transform_output=transform_output,
        user_features=custom["user_features"],
        item_features=custom["item_features"],
        draw_weights=custom.get("draw_weights"),
    )
    train = train_joint if regime == JOINT else train_offline
    state_dir = _state_dir(custom, regime)
    model, result = train(
        data,
        config,
        fn_args.model_run_dir,
        str(state_dir / _identity(fn_args, config)) if state_dir else None,
    )
    RESULTS.info(
        "%s: kept step %d of %d, meta_valid AUC/wGAUC %s; %d bytes per user",
        regime,
        result.best_step,
        result.steps,
        result.figures,
        model.partition.bytes_per_user,
    )
    manifest = export_model(
        fn_args.serving_model_dir,
        model,
        data.catalog,
        data.space,
        transform_output,
        model_name=JOINT if regime == JOINT else ADAPTOWER,
    )
    summary = {
        "regime": regime,
        "best_step": result.best_step,
        "steps": result.steps,
        "meta_valid_auc": result.figures.auc,
        "meta_valid_wgauc": result.figures.wgauc,
        "bytes_per_user": model.partition.bytes_per_user,
        "carried_share": _number(model.inner_loop.carried_share),
        "label_targets": model.inner_loop.label_targets(),
        "adaptive_map": AdaptiveMap.of(model).to_dict(),
        "fingerprint": manifest.fingerprint,
    }
    folder = Path(fn_args.model_run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    if state_dir and tf.io.gfile.exists(str(state_dir)):
        # This training's, and those of trainings that nobody went on with.
        tf.io.gfile.rmtree(str(state_dir))


def _number(variable: tf.Variable | None) -> float | None:
    return None if variable is None else float(variable)


def _state_dir(custom: Mapping[str, Any], regime: str) -> Path | None:
    root = custom.get("state_dir")
    return Path(root) / regime if root else None


def _identity(fn_args: FnArgs, config: TrainerConfig) -> str:
    """Digest of all that decides how a training goes."""
    parts = [
        dataclasses.asdict(config),
        fn_args.train_files,
        fn_args.eval_files,
        fn_args.transform_graph_path,
        fn_args.custom_config.get("draw_weights"),
        fn_args.custom_config.get("code_fingerprint"),
    ]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tuned(fn_args: FnArgs) -> dict[str, Any]:
    if not fn_args.hyperparameters:
        return {}
    found = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
    return searched_values(found.values)
