"""The InteractionExampleGen component."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import (
    ChannelParameter,
    ComponentSpec,
    ExecutionParameter,
)

from components.artifacts import DeadLetters, ItemCatalog
from components.dataset_spec import DatasetSpec
from components.interaction_example_gen import driver, executor


class InteractionExampleGenSpec(ComponentSpec):
    """Outputs and parameters of InteractionExampleGen."""

    PARAMETERS = {  # noqa: RUF012 (TFX asks for a plain dict)
        executor.DATASET_SPEC: ExecutionParameter(type=str),
        executor.DATA_FOLDER: ExecutionParameter(type=str),
        executor.NOW: ExecutionParameter(type=int, optional=True),
        executor.NUM_SHARDS: ExecutionParameter(type=int, optional=True),
        executor.CODE_FINGERPRINT: ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.CATALOG: ChannelParameter(type=ItemCatalog),
        executor.DEAD_LETTERS: ChannelParameter(type=DeadLetters),
    }


class InteractionExampleGen(base_beam_component.BaseBeamComponent):
    """Reads an interaction log with its user and item tables.

    Outputs:
        examples: One tf.Example per event (and per sampled negative), joined
            with its user's and item's features; splits meta_train,
            meta_valid and meta_test by user; a user's rows together and in
            time order.
        catalog: One tf.Example per item of the item table or the log.
        dead_letters: Rows that can't be used, and `summary.json` with the
            counts of everything.
    """

    SPEC_CLASS = InteractionExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(
        self,
        dataset_spec: DatasetSpec,
        data_folder: str,
        now: int | None = None,
        num_shards: int | None = None,
        code_fingerprint: str | None = None,
    ) -> None:
        """Makes the node.

        Args:
            dataset_spec: What to read, and how.
            data_folder: Where the files are (see `pipeline.fetch`).
            now: Seconds; an event later than this is a dead letter. By
                default it follows from the date of the newest file.
            num_shards: Files per split; by default one per 8 MiB of the log.
            code_fingerprint: Changes with the code that runs, so that TFX's
                cache does not answer for other code.
        """
        spec = InteractionExampleGenSpec(
            dataset_spec=dataset_spec.to_json(),
            data_folder=str(data_folder),
            now=now,
            num_shards=num_shards,
            code_fingerprint=code_fingerprint,
            examples=types.Channel(type=standard_artifacts.Examples),
            catalog=types.Channel(type=ItemCatalog),
            dead_letters=types.Channel(type=DeadLetters),
        )
        super().__init__(spec=spec)
