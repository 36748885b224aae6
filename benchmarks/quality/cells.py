"""Results that survive a kill: one folder per dataset, training and seed.

    WORK/DATASET/TRAINING/seed-N/scores.npz   scores of meta_test's rows
                                 info.json    hyper-parameters, steps, seconds,
                                              digest of the sources

A cell is made once; one with other hyper-parameters, or made by other sources,
is made anew. Both files
are renamed into place, `info.json` last, so what is there is whole.
"""

import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.quality.inputs import Inputs
from benchmarks.quality.outcome import Outcome, Scores
from benchmarks.quality.sources import CODE, current_code, is_stale
from benchmarks.quality.trainings import TRAININGS

_LOG = logging.getLogger(__name__)

_INFO = "info.json"
_SCORES = "scores.npz"
_STREAM = "stream"
_FEW_SHOT = "few_shot"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A training of one dataset with one seed.

    Attributes:
        folder: Where its results lie.
        training: Key of `TRAININGS`.
        values: Hyper-parameters by name, the seed among them.
    """

    folder: pathlib.Path
    training: str
    values: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        work_dir: pathlib.Path,
        dataset: str,
        name: str,
        training: str,
        values: Mapping[str, Any],
    ) -> "Cell":
        """The cell in the folder `name`: a training or a variant of it."""
        folder = work_dir / dataset / name / f"seed-{values['seed']}"
        return cls(folder, training, dict(values))

    def load(self) -> Outcome | None:
        """The result, if it was made with these hyper-parameters.

        One that other sources made is told in the log.
        """
        info = read_json(self.folder / _INFO, default=None)
        if info is None or info["values"] != _as_json(self.values):
            return None
        outcome = Outcome(info["value"], info["info"], code=info.get(CODE))
        if is_stale(outcome.code):
            _LOG.warning(
                "%s was made by other sources: %s, now %s",
                self.folder,
                outcome.code,
                current_code(),
            )
        with np.load(self.folder / _SCORES) as arrays:
            for key in arrays.files:
                kind, regime, *size = key.split("/")
                if kind == _STREAM:
                    outcome.stream[regime] = arrays[key]
                else:
                    by_k = outcome.few_shot.setdefault(regime, {})
                    by_k[int(size[0])] = arrays[key]
        return outcome

    def make(self, inputs: Inputs) -> Outcome:
        """Trains, scores and saves, unless these sources have done so."""
        outcome = self.load()
        if outcome is None or is_stale(outcome.code):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Curves are read from it, and an earlier training may have been
            # longer.
            events = self.folder / "tensorboard"
            shutil.rmtree(events, ignore_errors=True)
            outcome = TRAININGS[self.training](
                inputs, self.values, True, str(events)
            )
            outcome.code = current_code()
            self._save(outcome)
        return outcome

    def _save(self, outcome: Outcome) -> None:
        arrays: dict[str, Scores] = {
            f"{_STREAM}/{regime}": scores
            for regime, scores in outcome.stream.items()
        }
        for regime, by_k in outcome.few_shot.items():
            for size, scores in by_k.items():
                arrays[f"{_FEW_SHOT}/{regime}/{size}"] = scores
        partial = self.folder / f"partial-{_SCORES}"
        np.savez_compressed(partial, **arrays)
        partial.replace(self.folder / _SCORES)
        write_json(
            self.folder / _INFO,
            {
                "values": self.values,
                "value": outcome.value,
                "info": outcome.info,
                CODE: outcome.code,
            },
        )


def write_json(path: pathlib.Path, document: Any) -> None:
    """Writes a JSON file as a whole or not at all."""
    partial = path.with_name(f"partial-{path.name}")
    partial.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    partial.replace(path)


def read_json(path: pathlib.Path, default: Any) -> Any:
    """Reads a JSON file; `default` if there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else default


def _as_json(values: Any) -> Any:
    return json.loads(json.dumps(values))
