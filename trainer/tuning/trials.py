"""What became of each trial: a file beside Keras Tuner's own.

Keras Tuner keeps scores and values; this keeps all figures, the bytes per
user and why a trial has none. Being files, they outlive every process and
are seen by all of them.
"""

import dataclasses
import json
import pathlib
from typing import Any

from trainer.few_shot_validation import FewShotFigures

COMPLETED = "COMPLETED"
# Can't be, or takes more bytes per user than it may: never trained.
INVALID = "INVALID"
# Trained, and went wrong.
FAILED = "FAILED"

_FILE = "result.json"


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trial that ended.

    Attributes:
        trial_id: Keras Tuner's.
        status: `COMPLETED`, `INVALID` or `FAILED`.
        values: What was searched, by name.
        seconds: Time it took.
        bytes_per_user: Of adaptive weights; 0 if it isn't known.
        message: Why it has no figures.
        score: What was maximized.
        few_shot_auc: On meta_valid by k.
        few_shot_wgauc: The same.
        stream_auc: On meta_valid, by `joint`, `offline`, `online`.
        stream_wgauc: The same.
        best_step: Outer step of the parameters that were kept.
        steps: Outer steps taken.
    """

    trial_id: str
    status: str
    values: dict[str, Any]
    seconds: float
    bytes_per_user: int = 0
    message: str = ""
    score: float | None = None
    few_shot_auc: dict[str, float] = dataclasses.field(default_factory=dict)
    few_shot_wgauc: dict[str, float] = dataclasses.field(default_factory=dict)
    stream_auc: dict[str, float] = dataclasses.field(default_factory=dict)
    stream_wgauc: dict[str, float] = dataclasses.field(default_factory=dict)
    best_step: int = 0
    steps: int = 0

    @property
    def reason(self) -> str:
        """The first sentence of why it has no figures."""
        return self.message.split(". ")[0]

    def save(self, folder: pathlib.Path) -> None:
        """Writes the file, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / (_FILE + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2))
        partial.replace(folder / _FILE)

    def __str__(self) -> str:
        values = " ".join(f"{n}={_short(v)}" for n, v in self.values.items())
        if self.score is None:
            what = f"{self.status}: {self.reason}"
        else:
            what = f"score {self.score:.4f}  {self.bytes_per_user} bytes"
        return f"trial {self.trial_id}  {what}  {self.seconds:.0f} s  {values}"


def few_shot_columns(figures: FewShotFigures) -> dict[str, Any]:
    """Figures as `TrialResult` holds them: keys of JSON are text."""
    return {
        "score": figures.objective,
        "few_shot_auc": {str(k): v for k, v in figures.auc.items()},
        "few_shot_wgauc": {str(k): v for k, v in figures.wgauc.items()},
    }


def read_trial(folder: pathlib.Path) -> TrialResult | None:
    """Reads what `TrialResult.save` wrote, if it did."""
    path = folder / _FILE
    if not path.exists():
        return None
    return TrialResult(**json.loads(path.read_text()))


def read_trials(project: pathlib.Path) -> list[TrialResult]:
    """Reads the trials that ended, the best first, then those without score.

    Args:
        project: Folder of a search.
    """
    found = map(read_trial, project.glob("trial_*"))
    trials = [trial for trial in found if trial]

    def place(trial: TrialResult) -> tuple[float, int]:
        score = -1.0 if trial.score is None else trial.score
        return -score, int(trial.trial_id)

    return sorted(trials, key=place)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
