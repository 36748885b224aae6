"""The nodes of the pipeline that train.

Functions of `trainer` are named by dotted path, so that workers import them
from the installed package and nothing has to be packed into wheels.
"""

import dataclasses
from typing import Any

from tfx.components import Trainer, Tuner
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import trainer_pb2

from pipeline.data_nodes import DataNodes, declared_features
from pipeline.fingerprint import code_fingerprint
from pipeline.pipeline_config import PipelineConfig
from serving.contract.regimes import JOINT, OFFLINE

RUN_FN = "trainer.run_fn.run_fn"
TUNER_FN = "trainer.tuner_fn.tuner_fn"


@dataclasses.dataclass(frozen=True)
class TrainingNodes:
    """Nodes that make the candidate and the model it has to beat.

    Attributes:
        tuner: Searches hyper-parameters for the candidate, if asked to.
        trainer: Makes the candidate.
        joint: Makes the baseline.
    """

    tuner: Tuner | None
    trainer: Trainer
    joint: Trainer

    def nodes(self) -> list[BaseNode]:
        """The nodes in the order they run in."""
        tuner = [self.tuner] if self.tuner else []
        return [*tuner, self.trainer, self.joint]

    @classmethod
    def define(cls, config: PipelineConfig, data: DataNodes) -> "TrainingNodes":
        """Defines the nodes and their edges.

        Args:
            config: Dataset, folders and options.
            data: Have the episodes to learn from.
        """
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
