"""Resolves the blessed model that a new one must not fall behind."""

from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver


class EarlierBlessedModelStrategy(resolver.ResolverStrategy):
    """The newest blessed model other than the one that was just trained.

    TFX's own LatestBlessedModelStrategy returns the model of this very run if
    it comes from the cache and was blessed before. The evaluator would then
    compare a model with itself, and since its inputs differ from those of the
    first run, it and the pusher after it would never be answered from the
    cache.

    Input and output channels: `model` and `model_blessing`, any number of
    artifacts; `current_model`, the model just trained, returned as it is.
    """

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Returns at most one model, and its blessing."""
        del store
        current = {model.id for model in input_dict["current_model"]}
        blessings = {
            blessing.get_int_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
            ): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(
                constants.ARTIFACT_PROPERTY_BLESSED_KEY
            )
            == constants.BLESSED_VALUE
        }
        candidates = [
            model
            for model in input_dict["model"]
            if model.id in blessings and model.id not in current
        ]
        newest = sorted(candidates, key=lambda model: model.id)[-1:]
        return {
            "model": newest,
            "model_blessing": [blessings[model.id] for model in newest],
            "current_model": input_dict["current_model"],
        }
