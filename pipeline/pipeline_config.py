"""What the pipeline's definition depends on, as one value."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from components.dataset_spec import DatasetSpec
from pipeline.run_config import RunLayout

# By its full name: short names mean different runners in different versions
# of Beam, and some of those download a binary first.
LOCAL_BEAM_RUNNER = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """A pipeline run of one dataset in one run folder.

    Attributes:
        dataset: What to read, and the features to learn from.
        data_folder: Folder with the dataset's files.
        run_dir: The run folder, `runs/<dataset>`.
        tune: Whether Keras Tuner searches hyper-parameters before training.
        overrides: Hyper-parameters of the trainer that differ from its
            defaults, by name; values must be JSON.
        min_lift_over_joint: By how much AUC the new model must beat the
            `joint` baseline to be pushed; 0.01 is a point.
        beam_args: Beam pipeline arguments. Without a `--runner` among them
            Beam runs in this process.
        store: The gateways' store, a folder or an address; its users are
            learned for the new model before it is pushed. None: nobody is.
        store_ttl_seconds: When its users expire; None: never.
        use_cache: Whether a node whose inputs, parameters and code did not
            change takes the outputs of its last execution.
    """

    dataset: DatasetSpec
    data_folder: pathlib.Path
    run_dir: pathlib.Path
    tune: bool = False
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    min_lift_over_joint: float = 0.0
    beam_args: tuple[str, ...] = ()
    store: str | None = None
    store_ttl_seconds: float | None = None
    use_cache: bool = True

    @property
    def layout(self) -> RunLayout:
        """Paths in the run folder, absolute as TFX wants them."""
        return RunLayout(self.run_dir.absolute())

    @property
    def beam_pipeline_args(self) -> list[str]:
        """Beam's arguments, with a runner among them."""
        if any(arg.startswith("--runner") for arg in self.beam_args):
            return list(self.beam_args)
        return [LOCAL_BEAM_RUNNER, *self.beam_args]
