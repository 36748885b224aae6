"""What a finished pipeline run leaves for the closing act: `run.json`.

With a cache the artifacts that belong to a run need not be the newest ones on
disk, so the run writes down which they are.
"""

import dataclasses
import json
import pathlib

from components.dataset_spec import DatasetSpec
from pipeline.errors import ConfigError
from pipeline.run_config import RunLayout

_FILE = "run.json"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run as the replay sees it.

    Attributes:
        dataset: What was read.
        revision: Of the code that ran, or `unknown` outside a git checkout.
        examples: Folder of the raw examples.
        catalog: Folder of the raw items.
        evaluation: Folder of ColdStartEvaluator's findings.
        stage_seconds: Seconds of each stage so far.
    """

    dataset: DatasetSpec
    revision: str
    examples: pathlib.Path
    catalog: pathlib.Path
    evaluation: pathlib.Path
    stage_seconds: dict[str, float]

    def save(self, layout: RunLayout) -> None:
        """Writes the record into the run's folder, whole or not at all."""
        values = {
            "dataset": self.dataset.to_json(),
            "revision": self.revision,
            "examples": str(self.examples),
            "catalog": str(self.catalog),
            "evaluation": str(self.evaluation),
            "stage_seconds": self.stage_seconds,
        }
        target = layout.root / _FILE
        partial = target.with_name(_FILE + ".partial")
        partial.write_text(json.dumps(values, indent=2) + "\n")
        partial.replace(target)

    @classmethod
    def load(cls, layout: RunLayout) -> "RunRecord":
        """Reads what `save` wrote.

        Raises:
            ConfigError: The run did not get that far.
        """
        path = layout.root / _FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{path} does not exist: the pipeline in {layout.root} has "
                "not run to its end. `adaptower run` goes on where it was."
            ) from None
        return cls(
            dataset=DatasetSpec.from_json(values["dataset"]),
            revision=values["revision"],
            examples=pathlib.Path(values["examples"]),
            catalog=pathlib.Path(values["catalog"]),
            evaluation=pathlib.Path(values["evaluation"]),
            stage_seconds=values["stage_seconds"],
        )
