"""What TFX's Trainer calls: trains one regime and exports its model."""

import json
import logging
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from trainer.config import JOINT, REGIMES, TrainerConfig
from trainer.errors import TrainerConfigError
from trainer.export import export_model
from trainer.stages import StageData, train_joint, train_offline

_LOG = logging.getLogger(__name__)

# Written beside the TensorBoard events.
RESULT_FILE = "training.json"
ADAPTOWER = "adaptower"


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports.

    Args:
        fn_args: TFX's arguments; `custom_config` has `regime` (`offline` or
            `joint`), `user_features`, `item_features` and `overrides` of
            `TrainerConfig`. Hyper-parameters that the Tuner found come
            between the defaults and the overrides.

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
        {**_tuned(fn_args), **custom.get("overrides", {})}
    )
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    data = StageData.read(
        train_patterns=fn_args.train_files,
        valid_patterns=fn_args.eval_files,
        transform_output=transform_output,
        user_features=custom["user_features"],
        item_features=custom["item_features"],
    )
    train = train_joint if regime == JOINT else train_offline
    model, result = train(data, config, fn_args.model_run_dir)
    _LOG.info(
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
        "fingerprint": manifest.fingerprint,
    }
    folder = Path(fn_args.model_run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT_FILE).write_text(json.dumps(summary, indent=2) + "\n")


def _tuned(fn_args: FnArgs) -> dict[str, Any]:
    if not fn_args.hyperparameters:
        return {}
    found = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
    return {
        name: value
        for name, value in found.values.items()
        if not name.startswith("tuner/")
    }
