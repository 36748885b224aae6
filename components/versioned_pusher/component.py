"""The VersionedPusher component: from a blessed model to a new version."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.versioned_pusher import executor, versions


class VersionedPusherSpec(ComponentSpec):
    """Inputs, outputs and parameters of VersionedPusher."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        executor.PUSH_DIR: ExecutionParameter(type=str),
        executor.KEEP_VERSIONS: ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
        "infra_blessing": ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
        executor.EVALUATION: ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        "pushed_model": ChannelParameter(type=standard_artifacts.PushedModel),
    }


class VersionedPusher(base_component.BaseComponent):
    """Pushes a model as the next version of a model server's base path.

    Versions only go up, and appear whole or not at all; see `versions`.

    Outputs:
        pushed_model: PushedModel with TFX's custom properties `pushed`,
            `pushed_destination` and `pushed_version`.
    """

    SPEC_CLASS = VersionedPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        push_dir: str,
        model_blessing: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        keep_versions: int = 2,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            model: The model.
            push_dir: Base path that the model server watches; a local path.
            model_blessing: ColdStartEvaluator's; pushed only if positive.
            infra_blessing: InfraValidator's; pushed only if positive.
            evaluation: Its figures are written into the pushed manifest.
            keep_versions: How many of the versions pushed here to keep.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.

        Raises:
            PushError: No version would be kept.
        """
        versions.check_keep_versions(keep_versions)
        spec = VersionedPusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            evaluation=evaluation,
            push_dir=push_dir,
            keep_versions=keep_versions,
            code_fingerprint=code_fingerprint,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec)
