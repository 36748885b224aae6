"""The InfraValidator component: may this model go to the model server?"""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.infra_validator import executor


class InfraValidatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of InfraValidator."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        "model_name": ExecutionParameter(type=str, optional=True),
        "deadline_seconds": ExecutionParameter(type=float),
        "max_model_bytes": ExecutionParameter(type=int),
        "num_users": ExecutionParameter(type=int),
        "recommend_items": ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.BLESSING: ChannelParameter(
            type=standard_artifacts.InfraBlessing
        ),
    }


class InfraValidator(base_component.BaseComponent):
    """Serves a copy of a model, and compares its answers with the model's.

    TFX's InfraValidator needs Docker and asks whether a model loads and
    answers. This one takes the model server that is there
    (`tensorflow_model_server` on PATH, else the embedded one), asks `adapt`,
    `rank` and `recommend` for real users and replays the warm-up requests,
    and wants the in-process SavedModel's numbers to 1e-5, all finite, under
    the signatures and sizes that the manifest tells serving.

    Outputs:
        blessing: InfraBlessing as TFX's Pusher reads it. A refusal's reasons
            are in its file INFRA_NOT_BLESSED.
    """

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        model_name: str | None = None,
        deadline_seconds: float = 120.0,
        max_model_bytes: int = 2 << 30,
        num_users: int = 16,
        recommend_items: int = 5,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            model: The candidate.
            examples: Raw examples; requests are made from the split meta_test.
            model_name: Name it will be served under; the manifest has to say
                the same. Any if None.
            deadline_seconds: How long the server may take to load it.
            max_model_bytes: Largest SavedModel to serve.
            num_users: How many users to make requests of.
            recommend_items: How many items to ask `recommend` for.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.
        """
        spec = InfraValidatorSpec(
            model=model,
            examples=examples,
            model_name=model_name,
            deadline_seconds=deadline_seconds,
            max_model_bytes=max_model_bytes,
            num_users=num_users,
            recommend_items=recommend_items,
            code_fingerprint=code_fingerprint,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)
