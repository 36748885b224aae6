"""What TFX's Tuner calls: searches hyper-parameters with Keras Tuner."""

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from trainer.tuning.meta_tuner import MetaTuner
from trainer.tuning.options import TuningOptions
from trainer.tuning.request import SearchRequest


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Makes the tuner.

    Args:
        fn_args: TFX's arguments; `custom_config` as in `trainer.run_fn`, and
            maybe `tuning` with `TuningOptions` by name. Trials are kept in
            its `state_dir`, so that a search that was killed goes on, else
            in TFX's working folder.
    """
    return TunerFnResult(
        tuner=MetaTuner(search_request(fn_args)), fit_kwargs={}
    )


def search_request(fn_args: FnArgs) -> SearchRequest:
    """The search that TFX's arguments ask for."""
    custom = fn_args.custom_config
    overrides = dict(custom.get("overrides", {}))
    options = {"seed": overrides.get("seed", 0), **custom.get("tuning", {})}
    return SearchRequest(
        directory=custom.get("state_dir", fn_args.working_dir),
        train_patterns=list(fn_args.train_files),
        valid_patterns=list(fn_args.eval_files),
        transform_graph=fn_args.transform_graph_path,
        user_features=custom["user_features"],
        item_features=custom["item_features"],
        draw_weights=dict(custom.get("draw_weights", {})),
        training=dict(custom.get("training", {})),
        overrides=overrides,
        options=TuningOptions(**options),
        code_fingerprint=custom.get("code_fingerprint", ""),
    )
