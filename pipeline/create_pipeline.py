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
"""

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from pipeline.data_nodes import DataNodes
from pipeline.judging_nodes import judging_nodes
from pipeline.pipeline_config import PipelineConfig
from pipeline.training_nodes import TrainingNodes


def create_pipeline(config: PipelineConfig) -> Pipeline:
    """Defines the pipeline; runs nothing but writing the schema file.

    Args:
        config: Dataset, folders and options.

    Returns:
        A TFX pipeline for any of TFX's runners.
    """
    data = DataNodes.define(config)
    training = TrainingNodes.define(config, data)
    return _pipeline(
        config,
        [
            *data.nodes(),
            *training.nodes(),
            *judging_nodes(config, data, training),
        ],
    )


def create_data_pipeline(config: PipelineConfig) -> Pipeline:
    """Defines the part of the pipeline that ends with the episodes.

    Its nodes are those of the whole pipeline, so that each finds in the
    cache what the other has made.

    Args:
        config: As for `create_pipeline`.
    """
    return _pipeline(config, DataNodes.define(config).nodes())


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
