"""The TFX pipeline: from an interaction log to a pushed model.

    InteractionExampleGen ── examples ── StatisticsGen ─┐
      │      │            ImportSchemaGen ── schema ── ExampleValidator
      │      │                                              │
      │      │                                         AnomalyGate
      │      └───────── Transform <─────────────────────────┘ (waits for it)
      │ catalog            │ transformed_examples, transform_graph
      └─────────────── EpisodeGen
                           │ episodes
              [Tuner] ─ Trainer      Trainer.joint
                           │               │       earlier_blessed_model
                           ├───────── ColdStartEvaluator ──┘
                           ├───────── InfraValidator(.joint)
                       [Rebase]
                           │
                 VersionedPusher     VersionedPusher.joint

Rebase, if a store is given, learns the known users for the new fixed part
before the version that needs them is pushed.

Functions of `trainer` are named by dotted path, so that workers import them
from the installed package and nothing has to be packed into wheels.
"""

import dataclasses
from typing import Any

from tfx.components import (
    ExampleValidator,
    StatisticsGen,
    Trainer,
    Transform,
    Tuner,
)
from tfx.components.schema_gen.import_schema_gen.component import (
    ImportSchemaGen,
)
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2, transform_pb2
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from components.anomaly_gate.component import AnomalyGate
from components.cold_start_evaluator.component import ColdStartEvaluator
from components.episode_gen.component import EpisodeGen
from components.infra_validator.component import InfraValidator
from components.interaction_example_gen.component import InteractionExampleGen
from components.rebase.component import Rebase
from components.versioned_pusher.component import VersionedPusher
from pipeline.earlier_blessed_model import EarlierBlessedModelStrategy
from pipeline.fingerprint import code_fingerprint
from pipeline.pipeline_config import PipelineConfig
from pipeline.run_config import ADAPTIVE_MODEL
from pipeline.schema import build_schema, write_schema
from serving.contract.protocol import SPLITS

PREPROCESSING_FN = "pipeline.preprocessing.preprocessing_fn"
RUN_FN = "trainer.run_fn.run_fn"
TUNER_FN = "trainer.tuner_fn.tuner_fn"
# Regimes that a model is trained for, and folders under `serving/`.
OFFLINE = "offline"
JOINT = "joint"


def create_pipeline(config: PipelineConfig) -> Pipeline:
    """Defines the pipeline; runs nothing but writing the schema file.

    Args:
        config: Dataset, folders and options.

    Returns:
        A TFX pipeline for any of TFX's runners.
    """
    data = _DataNodes.define(config)
    training = _TrainingNodes.define(config, data)
    return _pipeline(
        config,
        [
            *data.nodes(),
            *training.nodes(),
            *_judging_nodes(config, data, training),
        ],
    )


def create_data_pipeline(config: PipelineConfig) -> Pipeline:
    """Defines the part of the pipeline that ends with the episodes.

    Its nodes are those of the whole pipeline, so that each finds in the
    cache what the other has made.

    Args:
        config: As for `create_pipeline`.
    """
    return _pipeline(config, _DataNodes.define(config).nodes())


def _pipeline(config: PipelineConfig, nodes: list[BaseNode]) -> Pipeline:
    return Pipeline(
        pipeline_name=f"adaptower-{config.dataset.name}",
        pipeline_root=str(config.layout.pipeline_root),
        components=nodes,
        enable_cache=config.use_cache,
        metadata_connection_config=sqlite_metadata_connection_config(
            str(config.layout.metadata)
        ),
        beam_pipeline_args=config.beam_pipeline_args,
    )


@dataclasses.dataclass(frozen=True)
class _DataNodes:
    """Nodes that turn the log into episodes."""

    example_gen: InteractionExampleGen
    statistics_gen: StatisticsGen
    schema_gen: ImportSchemaGen
    validator: ExampleValidator
    gate: AnomalyGate
    transform: Transform
    episode_gen: EpisodeGen

    def nodes(self) -> list[BaseNode]:
        """The nodes in the order they run in."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    @classmethod
    def define(cls, config: PipelineConfig) -> "_DataNodes":
        """Defines the nodes and their edges."""
        spec = config.dataset
        example_gen = InteractionExampleGen(
            # Hyper-parameters are nothing to read the log again for.
            dataset_spec=dataclasses.replace(spec, training={}),
            data_folder=str(config.data_folder.absolute()),
            code_fingerprint=_component_code("interaction_example_gen"),
        )
        examples = example_gen.outputs["examples"]
        schema = build_schema([*spec.user_features, *spec.item_features])
        schema_gen = ImportSchemaGen(
            schema_file=write_schema(schema, str(config.layout.root / "schema"))
        )
        statistics_gen = StatisticsGen(examples=examples)
        validator = ExampleValidator(
            statistics=statistics_gen.outputs["statistics"],
            schema=schema_gen.outputs["schema"],
        )
        gate = AnomalyGate(
            anomalies=validator.outputs["anomalies"],
            code_fingerprint=_component_code("anomaly_gate"),
        )
        transform = Transform(
            examples=examples,
            schema=schema_gen.outputs["schema"],
            preprocessing_fn=PREPROCESSING_FN,
            splits_config=transform_pb2.SplitsConfig(
                analyze=["meta_train"], transform=SPLITS
            ),
            custom_config=declared_features(config)
            | {"code_fingerprint": code_fingerprint("pipeline.preprocessing")},
            # StatisticsGen and the gate have seen to the raw examples.
            disable_statistics=True,
            disable_analyzer_cache=True,
        )
        transform.add_upstream_node(gate)
        episode_gen = EpisodeGen(
            transformed_examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            catalog=example_gen.outputs["catalog"],
            user_features=spec.user_features,
            item_features=spec.item_features,
            code_fingerprint=_component_code("episode_gen"),
        )
        return cls(
            example_gen=example_gen,
            statistics_gen=statistics_gen,
            schema_gen=schema_gen,
            validator=validator,
            gate=gate,
            transform=transform,
            episode_gen=episode_gen,
        )


@dataclasses.dataclass(frozen=True)
class _TrainingNodes:
    """Nodes that make the candidate and the model it has to beat."""

    tuner: Tuner | None
    trainer: Trainer
    joint: Trainer

    def nodes(self) -> list[BaseNode]:
        """The nodes in the order they run in."""
        tuner = [self.tuner] if self.tuner else []
        return [*tuner, self.trainer, self.joint]

    @classmethod
    def define(
        cls, config: PipelineConfig, data: _DataNodes
    ) -> "_TrainingNodes":
        """Defines the nodes and their edges."""
        shared: dict[str, Any] = {
            "examples": data.episode_gen.outputs["episodes"],
            "transform_graph": data.transform.outputs["transform_graph"],
            "schema": data.schema_gen.outputs["schema"],
            "train_args": trainer_pb2.TrainArgs(splits=["meta_train"]),
            "eval_args": trainer_pb2.EvalArgs(splits=["meta_valid"]),
        }
        tuner = None
        if config.tune:
            tuner = Tuner(
                tuner_fn=TUNER_FN,
                custom_config=_custom_config(config, OFFLINE, code="trainer")
                | {"state_dir": str(config.layout.tuning)},
                **shared,
            )
        trainer = Trainer(
            run_fn=RUN_FN,
            custom_config=_custom_config(config, OFFLINE),
            hyperparameters=(
                tuner.outputs["best_hyperparameters"] if tuner else None
            ),
            **shared,
        )
        # What was found for our objective is nothing to judge the baseline
        # by: it keeps what the dataset comes with.
        joint = Trainer(
            run_fn=RUN_FN,
            custom_config=_custom_config(config, JOINT),
            **shared,
        ).with_id(f"Trainer.{JOINT}")
        return cls(tuner=tuner, trainer=trainer, joint=joint)


def _judging_nodes(
    config: PipelineConfig, data: _DataNodes, training: _TrainingNodes
) -> list[BaseNode]:
    """Nodes that decide what is pushed, and push it."""
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
        code_fingerprint=_component_code("cold_start_evaluator"),
    )
    validator = InfraValidator(
        model=model,
        examples=examples,
        code_fingerprint=_component_code(
            "infra_validator", "serving.model_server"
        ),
    )
    joint_validator = InfraValidator(
        model=joint_model,
        examples=examples,
        code_fingerprint=_component_code(
            "infra_validator", "serving.model_server"
        ),
    ).with_id(f"InfraValidator.{JOINT}")
    pusher = VersionedPusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        evaluation=evaluator.outputs["evaluation"],
        push_dir=str(serving / ADAPTIVE_MODEL),
        code_fingerprint=_component_code("versioned_pusher"),
    )
    rebase = _rebase_nodes(config, model, evaluator, validator)
    for node in rebase:
        pusher.add_upstream_node(node)
    # The baseline is served for comparison, blessed or not.
    joint_pusher = VersionedPusher(
        model=joint_model,
        infra_blessing=joint_validator.outputs["blessing"],
        push_dir=str(serving / JOINT),
        code_fingerprint=_component_code("versioned_pusher"),
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
            code_fingerprint=_component_code("rebase"),
        )
    ]


def declared_features(config: PipelineConfig) -> dict[str, Any]:
    """The declared features, as preprocessing_fn and the trainer take them."""
    return {
        "user_features": [f.to_dict() for f in config.dataset.user_features],
        "item_features": [f.to_dict() for f in config.dataset.item_features],
    }


def _custom_config(
    config: PipelineConfig, regime: str, code: str = "trainer.run_fn"
) -> dict[str, Any]:
    """What run_fn and tuner_fn are told; `code` is where they are."""
    return declared_features(config) | {
        "regime": regime,
        "dataset": config.dataset.name,
        "draw_weights": config.dataset.draw_weights,
        "training": config.dataset.hyper_parameters,
        "overrides": dict(config.overrides),
        "state_dir": str(config.layout.training_state),
        "code_fingerprint": code_fingerprint(code),
    }


def _component_code(name: str, *programs: str) -> str:
    """Digest of a component, all it imports, and programs that it starts."""
    return code_fingerprint(f"components.{name}.component", *programs)
