"""The Rebase component: known users, learned for the version to come."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.artifacts import RebaseResult
from components.rebase import executor


class RebaseSpec(ComponentSpec):
    """Inputs, outputs and parameters of Rebase."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.STORE: ExecutionParameter(type=str),
        executor.TTL_SECONDS: ExecutionParameter(type=float, optional=True),
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_BLESSING: ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
        executor.INFRA_BLESSING: ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.RESULT: ChannelParameter(type=RebaseResult),
    }


class Rebase(base_beam_component.BaseBeamComponent):
    """Learns the weights of all known users for a model's fixed part.

    It comes before the pusher: when the model server has the version, its
    users are there already. The store may be in use; users who learn
    meanwhile are learned by the gateway when they come next.

    Outputs:
        result: RebaseResult with `counts.json`.
    """

    SPEC_CLASS = RebaseSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        store: str,
        model_name: str,
        model_blessing: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        ttl_seconds: float | None = None,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            model: The model that is about to be pushed.
            store: The gateways' store: a folder of this machine, or the
                address of a Redis server. `$NAME` in it stands for a
                variable of the worker's environment: what is written here
                is kept in the metadata.
            model_name: Name that the model is served under.
            model_blessing: ColdStartEvaluator's; without a blessing nobody
                is learned, as nothing will be pushed.
            infra_blessing: InfraValidator's, likewise.
            ttl_seconds: The gateways' `--store-ttl-days`, in seconds.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.
        """
        spec = RebaseSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            store=store,
            model_name=model_name,
            ttl_seconds=ttl_seconds,
            code_fingerprint=code_fingerprint,
            result=types.Channel(type=RebaseResult),
        )
        super().__init__(spec=spec)
