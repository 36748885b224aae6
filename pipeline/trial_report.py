"""The table of a search's trials: on the screen, and as files to be kept.

Defaults that were tuned are shipped together with it, so that anybody can see
where they came from.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from components.dataset_spec import DatasetSpec
from pipeline.revision import code_revision
from trainer.tuning.request import SearchRequest
from trainer.tuning.trials import TrialResult

_PACKAGES = ("adaptower", "keras-tuner", "tensorflow", "tf-keras")
# How long and from which start trials trained, which a dataset doesn't tell.
_OF_THE_SEARCH = ("max_steps", "seed")
# Support sizes and columns that there is room for, on paper and screen.
_SHOWN = ("0", "3", "10")
_ON_SCREEN = (
    *("trial", "score", "AUC 0", "AUC 10", "wGAUC 0", "wGAUC 10"),
    *("bytes", "step", "s"),
)


@dataclasses.dataclass(frozen=True)
class TrialReport:
    """A search and its trials.

    Attributes:
        dataset: What was searched on.
        request: What was searched, and how.
        trials: The best first; at least one of them has figures.
        command: What makes the same search again.
    """

    dataset: DatasetSpec
    request: SearchRequest
    trials: Sequence[TrialResult]
    command: str

    @property
    def best(self) -> TrialResult:
        """The best trial."""
        return self.trials[0]

    @property
    def training(self) -> dict[str, Any]:
        """What the dataset's spec should say under `training:`."""
        # What was given and not searched is a part of what was tried.
        config = dataclasses.asdict(self.request.base)
        given = {
            name: config[name]
            for name in self.request.overrides
            if name not in _OF_THE_SEARCH
        }
        values = {**self.request.training, **self.best.values, **given}
        return {n: _rounded(v) for n, v in values.items()}

    def print(self, console: Console) -> None:
        """Prints the trials' figures, and the values of the best."""
        header, *rows = self._table(())
        shown = [header.index(name) for name in _ON_SCREEN]
        table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
        for name in _ON_SCREEN:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*(row[index] for index in shown))
        console.print(table)
        console.print(f"Best: trial {self.best.trial_id}. To use it:")
        console.print(f"  training:{self._yaml(4)}", highlight=False)

    def write(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes `<dataset>.md` and `<dataset>.json`.

        Args:
            folder: Made if it isn't there.

        Returns:
            The files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / f"{self.dataset.name}.md"
        page.write_text(self._page(), encoding="utf-8")
        data = folder / f"{self.dataset.name}.json"
        data.write_text(
            json.dumps(self._values(), indent=2) + "\n", encoding="utf-8"
        )
        return [page, data]

    def _table(self, names: Sequence[str]) -> list[list[str]]:
        """A header, and a row for each trial with some of its values."""
        header = ["trial", "score"]
        header += [f"AUC {k}" for k in _SHOWN]
        header += [f"wGAUC {k}" for k in _SHOWN]
        header += ["AUC online", "wGAUC online", "bytes", "step", "s", *names]
        header.append("why not")
        return [header, *(self._row(trial, names) for trial in self.trials)]

    def _row(self, trial: TrialResult, names: Sequence[str]) -> list[str]:
        score = trial.status if trial.score is None else f"{trial.score:.4f}"
        figures = [
            *(trial.few_shot_auc.get(k) for k in _SHOWN),
            *(trial.few_shot_wgauc.get(k) for k in _SHOWN),
            trial.stream_auc.get("online"),
            trial.stream_wgauc.get("online"),
        ]
        return [
            trial.trial_id,
            score,
            *("" if value is None else f"{value:.4f}" for value in figures),
            str(trial.bytes_per_user or ""),
            f"{trial.best_step}/{trial.steps}" if trial.steps else "",
            f"{trial.seconds:.0f}",
            *(str(_rounded(trial.values.get(name, ""))) for name in names),
            trial.reason,
        ]

    def _page(self) -> str:
        options = self.request.options
        names = sorted({n for trial in self.trials for n in trial.values})
        header, *rows = self._table(names)
        lines = [header, ["---"] * len(header), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        counts = ", ".join(
            f"{sum(trial.status == status for trial in self.trials)} {status}"
            for status in sorted({trial.status for trial in self.trials})
        )
        given = json.dumps(self.request.overrides)
        return f"""# Tuning on {self.dataset.name}

{len(self.trials)} trials ({counts}), proposed by `{options.oracle}`, at most
{options.budget_bytes} bytes of adaptive weights per user. Trained on meta_train
and judged on meta_valid; no trial has seen meta_test. Revision
{code_revision()}. Given and not searched:

```json
{given}
```

The score is the mean of AUC and wGAUC over k = 0, 1, 3, 5, 10 and 20 events
(the protocol's few-shot question), of which the table shows some; `AUC online`
and `wGAUC online` are of the stream. `step` is the outer step that was kept, of
how many. INVALID trials were refused before training.

```
{self.command}
```

Best, for the dataset's spec:

```yaml
training:{self._yaml(2)}
```

{table}
"""

    def _values(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "command": self.command,
            "revision": code_revision(),
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "options": dataclasses.asdict(self.request.options),
            "given": self.request.overrides,
            "start": self.request.training,
            "best": self.best.trial_id,
            "training": self.training,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }

    def _yaml(self, indent: int) -> str:
        block = yaml.safe_dump(self.training, sort_keys=True).rstrip()
        return "".join(
            "\n" + " " * indent + line for line in block.splitlines()
        )


def _rounded(value: Any) -> Any:
    """Three digits tell trials apart; nobody reads seventeen."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
