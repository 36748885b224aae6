"""The nodes of the pipeline that turn a log into episodes."""

import dataclasses
from typing import Any

from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import (
    ImportSchemaGen,
)
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import transform_pb2

from components.anomaly_gate.component import AnomalyGate
from components.episode_gen.component import EpisodeGen
from components.interaction_example_gen.component import InteractionExampleGen
from pipeline.fingerprint import code_fingerprint, component_fingerprint
from pipeline.pipeline_config import PipelineConfig
from pipeline.schema import build_schema, write_schema
from serving.contract.protocol import SPLITS

PREPROCESSING_FN = "pipeline.preprocessing.preprocessing_fn"


@dataclasses.dataclass(frozen=True)
class DataNodes:
    """Nodes that turn the log into episodes, in the order they run in."""

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
    def define(cls, config: PipelineConfig) -> "DataNodes":
        """Defines the nodes and their edges.

        Args:
            config: Dataset, folders and options.
        """
        spec = config.dataset
        example_gen = InteractionExampleGen(
            # Hyper-parameters are nothing to read the log again for.
            dataset_spec=dataclasses.replace(spec, training={}),
            data_folder=str(config.data_folder.absolute()),
            code_fingerprint=component_fingerprint("interaction_example_gen"),
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
            code_fingerprint=component_fingerprint("anomaly_gate"),
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
            code_fingerprint=component_fingerprint("episode_gen"),
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


def declared_features(config: PipelineConfig) -> dict[str, Any]:
    """The declared features, as preprocessing_fn and the trainer take them."""
    return {
        "user_features": [f.to_dict() for f in config.dataset.user_features],
        "item_features": [f.to_dict() for f in config.dataset.item_features],
    }
