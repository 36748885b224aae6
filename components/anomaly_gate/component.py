"""The AnomalyGate component."""

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.anomaly_gate import executor
from components.artifacts import DataBlessing


class AnomalyGateSpec(ComponentSpec):
    """Inputs, outputs and parameters of AnomalyGate."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.ANOMALIES: ChannelParameter(
            type=standard_artifacts.ExampleAnomalies
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.BLESSING: ChannelParameter(type=DataBlessing),
    }


class AnomalyGate(base_component.BaseComponent):
    """Stops the run on anomalies that `policy` calls blocking.

    Nodes that learn from the examples must run after this one: add it to them
    with `add_upstream_node`, or let them take its output.

    Outputs:
        blessing: DataBlessing; exists only if nothing blocks. Its file
            `findings.json` lists what was found and doesn't block.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        anomalies: types.BaseChannel,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            anomalies: What ExampleValidator found.
            code_fingerprint: Changes with the policy, so that TFX's cache
                doesn't answer for another one.
        """
        spec = AnomalyGateSpec(
            anomalies=anomalies,
            code_fingerprint=code_fingerprint,
            blessing=types.Channel(type=DataBlessing),
        )
        super().__init__(spec=spec)
