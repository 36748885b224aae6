"""The ColdStartEvaluator component: is this model good for cold users?"""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.cold_start_evaluator import executor


class ColdStartEvaluatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of ColdStartEvaluator."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        "min_lift_over_joint": ExecutionParameter(type=float),
        "max_loss_to_last_blessed": ExecutionParameter(type=float),
        "bootstrap_draws": ExecutionParameter(type=int),
        "max_users": ExecutionParameter(type=int),
        "max_slice_rows": ExecutionParameter(type=int),
        "meta_update": ExecutionParameter(type=bool),
        "code_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.JOINT_MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.BASELINE_MODEL: ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EVALUATION: ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        ),
        executor.BLESSING: ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }


class ColdStartEvaluator(base_beam_component.BaseBeamComponent):
    """Scores cold users' streams and blesses a model that serves them better.

    A candidate is blessed if its `online` regime beats `joint` and is not
    worse than the last blessed model, in AUC and in wGAUC.

    Outputs:
        evaluation: ModelEvaluation: `evaluation.json` (figures, intervals,
            counts, reasons), `scores/` (see `score_tables`), TFMA's files.
        blessing: ModelBlessing with the properties that TFX's Pusher and
            LatestBlessedModelStrategy read.
    """

    SPEC_CLASS = ColdStartEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        joint_model: types.BaseChannel,
        baseline_model: types.BaseChannel | None = None,
        min_lift_over_joint: float = 0.0,
        max_loss_to_last_blessed: float = 0.005,
        bootstrap_draws: int = 1000,
        max_users: int = 20_000,
        max_slice_rows: int = 12_000,
        meta_update: bool = True,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            examples: Raw examples of InteractionExampleGen; the signatures
                take raw features. Its split meta_test is judged.
            model: The candidate.
            joint_model: The plain supervised model to beat.
            baseline_model: The last blessed model, from a Resolver; it may
                resolve to nothing.
            min_lift_over_joint: The lower bound of the paired 95% interval of
                `online` minus `joint` has to lie above this; 0.01 is a point.
            max_loss_to_last_blessed: How far below the last blessed model the
                candidate may lie.
            bootstrap_draws: Draws of users behind the intervals.
            max_users: Judge at most so many users, chosen by a hash of their
                ids, so that the figures fit one machine.
            max_slice_rows: Show TFMA at most so many rows; it takes about
                0.5 ms per row and slice.
            meta_update: Whether the meta-initialization moves in the regime
                `online`, as the gateway's does.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.
        """
        spec = ColdStartEvaluatorSpec(
            examples=examples,
            model=model,
            joint_model=joint_model,
            baseline_model=baseline_model,
            min_lift_over_joint=min_lift_over_joint,
            max_loss_to_last_blessed=max_loss_to_last_blessed,
            bootstrap_draws=bootstrap_draws,
            max_users=max_users,
            max_slice_rows=max_slice_rows,
            meta_update=meta_update,
            code_fingerprint=code_fingerprint,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
