"""The nodes of the pipeline that decide what is pushed, and push it."""

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from components.cold_start_evaluator.component import ColdStartEvaluator
from components.infra_validator.component import InfraValidator
from components.rebase.component import Rebase
from components.versioned_pusher.component import VersionedPusher
from pipeline.data_nodes import DataNodes
from pipeline.earlier_blessed_model import EarlierBlessedModelStrategy
from pipeline.fingerprint import component_fingerprint
from pipeline.pipeline_config import PipelineConfig
from pipeline.run_config import ADAPTIVE_MODEL
from pipeline.training_nodes import TrainingNodes
from serving.contract.regimes import JOINT


def judging_nodes(
    config: PipelineConfig, data: DataNodes, training: TrainingNodes
) -> list[BaseNode]:
    """Defines the nodes and their edges.

    Args:
        config: Of the pipeline.
        data: Has the examples to judge on.
        training: Has the models.

    Returns:
        The nodes in the order they run in.
    """
    examples = data.example_gen.outputs["examples"]
    model = training.trainer.outputs["model"]
    joint_model = training.joint.outputs["model"]
    serving = config.layout.serving
    earlier = Resolver(
        strategy_class=EarlierBlessedModelStrategy,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
        current_model=model,
    ).with_id("earlier_blessed_model")
    evaluator = ColdStartEvaluator(
        examples=examples,
        model=model,
        joint_model=joint_model,
        baseline_model=earlier.outputs["model"],
        min_lift_over_joint=config.min_lift_over_joint,
        code_fingerprint=component_fingerprint("cold_start_evaluator"),
    )
    validator = InfraValidator(
        model=model,
        examples=examples,
        code_fingerprint=component_fingerprint(
            "infra_validator", "serving.model_server"
        ),
    )
    joint_validator = InfraValidator(
        model=joint_model,
        examples=examples,
        code_fingerprint=component_fingerprint(
            "infra_validator", "serving.model_server"
        ),
    ).with_id(f"InfraValidator.{JOINT}")
    pusher = VersionedPusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        evaluation=evaluator.outputs["evaluation"],
        push_dir=str(serving / ADAPTIVE_MODEL),
        code_fingerprint=component_fingerprint("versioned_pusher"),
    )
    rebase = _rebase_nodes(config, model, evaluator, validator)
    for node in rebase:
        pusher.add_upstream_node(node)
    # The baseline is served for comparison, beside the candidate that was
    # compared with it: another one's figures would be no comparison.
    joint_pusher = VersionedPusher(
        model=joint_model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=joint_validator.outputs["blessing"],
        push_dir=str(serving / JOINT),
        code_fingerprint=component_fingerprint("versioned_pusher"),
    ).with_id(f"VersionedPusher.{JOINT}")
    return [
        earlier,
        evaluator,
        validator,
        joint_validator,
        *rebase,
        pusher,
        joint_pusher,
    ]


def _rebase_nodes(
    config: PipelineConfig,
    model: BaseChannel,
    evaluator: ColdStartEvaluator,
    validator: InfraValidator,
) -> list[BaseNode]:
    """Rebase, if a store is given: the pushed version finds its users there."""
    if config.store is None:
        return []
    return [
        Rebase(
            model=model,
            store=config.store,
            model_name=ADAPTIVE_MODEL,
            model_blessing=evaluator.outputs["blessing"],
            infra_blessing=validator.outputs["blessing"],
            ttl_seconds=config.store_ttl_seconds,
            code_fingerprint=component_fingerprint("rebase"),
        )
    ]
