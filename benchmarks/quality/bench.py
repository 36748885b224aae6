"""The stages of the benchmark for one dataset."""

import logging
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from benchmarks.about import about
from benchmarks.quality import plots, tables, tuning
from benchmarks.quality.artifacts import Artifacts
from benchmarks.quality.cells import Cell, read_json, write_json
from benchmarks.quality.document import made_document
from benchmarks.quality.inputs import Inputs, load_inputs
from benchmarks.quality.options import Options
from components.dataset_spec import DatasetSpec
from trainer.config import PARTITION_PRESETS, TrainerConfig
from trainer.errors import TrainerConfigError

_LOG = logging.getLogger(__name__)

_PRESET = "preset-{}"


class Bench:
    """Tunes, runs and reports one dataset."""

    def __init__(
        self,
        dataset: str,
        inputs: Inputs,
        base: Mapping[str, Any],
        options: Options,
    ) -> None:
        """Prepares.

        Args:
            dataset: Its name.
            inputs: What is trained on and judged by.
            base: Hyper-parameters that differ from the defaults; one whose
                name starts with a training's and a dot is of that one alone.
            options: What to do.
        """
        self._dataset = dataset
        self._inputs = inputs
        self._base = dict(base)
        self._options = options
        self._tuning = options.work_dir / dataset / "tuning"

    @classmethod
    def of_artifacts(
        cls,
        artifacts: Artifacts,
        spec: DatasetSpec,
        overrides: Mapping[str, Any],
        options: Options,
    ) -> "Bench":
        """Reads a dataset that the pipeline's data stages prepared."""
        inputs = load_inputs(
            artifacts,
            spec.user_features,
            spec.item_features,
            options.judged_split,
        )
        base = {**spec.hyper_parameters, **overrides}
        return cls(spec.name, inputs, base, options)

    def tune(self) -> None:
        """Tries hyper-parameters of each training on meta_valid."""
        for training in self._trainings():
            tuning.tune(
                self._inputs,
                training,
                self._base_of(training),
                self._options.trials,
                self._tuning,
            )

    def run(self) -> None:
        """Makes every cell that is not there yet."""
        self.tune()
        for cells in self._cells().values():
            for cell in cells:
                cell.make(self._inputs)

    def report(self) -> None:
        """Prints tables; writes JSON and plots of the cells there are."""
        cells = self._cells()
        outcomes = {
            name: [outcome for cell in of if (outcome := cell.load())]
            for name, of in cells.items()
        }
        outcomes = {name: of for name, of in outcomes.items() if of}
        document = made_document(
            self._options, self._inputs.test, self._tuning, cells, outcomes
        )
        whole = read_json(self._options.output, default={})
        # Others stay as they are, with the command that made them.
        told = about("benchmarks.quality") | document
        datasets = whole.get("datasets", {}) | {self._dataset: told}
        self._options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._options.output, {"datasets": datasets})
        tables.show(self._dataset, document, Console())
        folder = self._options.output.parent / self._options.output.stem
        plots.write(folder / self._dataset, document)

    def _trainings(self) -> list[str]:
        """What is tuned; presets are tuned as ours is."""
        names = set(self._options.trainings)
        if self._options.presets:
            names.add("meta")
        return sorted(names)

    def _base_of(self, training: str) -> dict[str, Any]:
        """Hyper-parameters that a training begins with."""
        shared = {n: v for n, v in self._base.items() if "." not in n}
        prefix = f"{training}."
        return shared | {
            name.removeprefix(prefix): value
            for name, value in self._base.items()
            if name.startswith(prefix)
        }

    def _tuned(self, training: str) -> dict[str, Any]:
        return tuning.best_known(
            training,
            self._base_of(training),
            self._options.trials,
            self._tuning,
        )

    def _cells(self) -> dict[str, list[Cell]]:
        """Cells by name, one for each seed."""
        wanted = {
            name: (name, name, self._tuned(name))
            for name in self._options.trainings
        }
        if self._options.presets:
            tuned = self._tuned("meta")
            for preset in PARTITION_PRESETS:
                name = _PRESET.format(preset)
                # What ours has anyway is trained once.
                if TrainerConfig.from_dict(tuned).partition == preset:
                    wanted[name] = ("meta", "meta", tuned)
                    continue
                values = {**tuned, "partition": preset}
                try:
                    TrainerConfig.from_dict(values)
                except TrainerConfigError as error:
                    _LOG.warning("%s is left out: %s", name, error)
                    continue
                wanted[name] = (name, "meta", values)
        return {
            name: [
                Cell.of(
                    self._options.work_dir,
                    self._dataset,
                    folder,
                    training,
                    {**values, "seed": seed},
                )
                for seed in self._options.seeds
            ]
            for name, (folder, training, values) in wanted.items()
        }
