"""The EpisodeGen component: one record per user, events in time order."""

import json
from collections.abc import Sequence

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.artifacts import ItemCatalog
from components.episode_gen import executor
from serving.contract.features import Feature


class EpisodeGenSpec(ComponentSpec):
    """Inputs, outputs and parameters of EpisodeGen."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        executor.USER_FEATURES: ExecutionParameter(type=str),
        executor.ITEM_FEATURES: ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.TRANSFORM_GRAPH: ChannelParameter(
            type=standard_artifacts.TransformGraph
        ),
        executor.CATALOG: ChannelParameter(type=ItemCatalog),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EPISODES: ChannelParameter(type=standard_artifacts.Examples),
    }


class EpisodeGen(base_beam_component.BaseBeamComponent):
    """Gathers the events of each user, and the items' ids in a split beside.

    Outputs:
        episodes: Examples with the splits of its input and the split
            `catalog`. What the records hold: `executor.Executor`.
    """

    SPEC_CLASS = EpisodeGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        transformed_examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        catalog: types.BaseChannel,
        user_features: Sequence[Feature],
        item_features: Sequence[Feature],
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            transformed_examples: Events after Transform.
            transform_graph: The graph that transformed them.
            catalog: Raw items.
            user_features: Features that go into the users' records.
            item_features: Features that go into the catalog.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.
        """
        spec = EpisodeGenSpec(
            transformed_examples=transformed_examples,
            transform_graph=transform_graph,
            catalog=catalog,
            user_features=_to_json(user_features),
            item_features=_to_json(item_features),
            code_fingerprint=code_fingerprint,
            episodes=types.Channel(type=standard_artifacts.Examples),
        )
        super().__init__(spec=spec)


def _to_json(features: Sequence[Feature]) -> str:
    return json.dumps([feature.name for feature in features])
