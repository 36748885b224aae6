"""What is reported of a dataset: one JSON document of all its cells."""

import pathlib
from collections.abc import Mapping
from typing import Any

from benchmarks.quality import figures
from benchmarks.quality.cells import Cell, read_json
from benchmarks.quality.convergence import auc_by_step, steps_to_quality
from benchmarks.quality.inputs import Judged
from benchmarks.quality.options import Options
from benchmarks.quality.outcome import Outcome
from benchmarks.quality.sources import CODE

_CONVERGING = ("joint", "meta", "maml_all", "history")


def made_document(
    options: Options,
    judged: Judged,
    tuned: pathlib.Path,
    cells: Mapping[str, list[Cell]],
    outcomes: Mapping[str, list[Outcome]],
) -> dict[str, Any]:
    """Puts together what is reported of a dataset.

    Args:
        options: What was done.
        judged: The users that were scored.
        tuned: Folder of the trials.
        cells: By name, one for each seed.
        outcomes: Of those of them that were made.

    Returns:
        Figures and how they came about, as JSON has them.
    """
    main = {n: of for n, of in outcomes.items() if n in options.trainings}
    document: dict[str, Any] = {
        "judged_split": options.judged_split,
        "seeds": {name: len(of) for name, of in outcomes.items()},
        # Digests of the sources that made each seed's result.
        CODE: {
            name: [outcome.code for outcome in of]
            for name, of in outcomes.items()
        },
        "hyper_parameters": {
            name: dict(of[0].values) for name, of in cells.items()
        },
        "tuning": {
            name: read_json(tuned / f"{name}.json", default=[])
            for name in options.trainings
        },
        "stream": figures.stream_figures(
            judged, figures.by_regime(main), options.draws
        ),
        "few_shot": figures.few_shot_figures(judged, main, options.draws),
        "costs": figures.costs(outcomes),
        "presets": figures.preset_figures(
            judged,
            {n: of for n, of in outcomes.items() if n not in main},
            options.draws,
        ),
    }
    curves = {
        name: [
            auc_by_step(cell.folder, name, cell.values)
            for cell in of
            if cell.load()
        ]
        for name, of in cells.items()
        if name in _CONVERGING and name in main
    }
    if "joint" in curves:
        document["auc_by_step"] = curves
        document["steps_to_quality"] = steps_to_quality(curves)
    for name in ("forgetting", "partition_map", "online_progress"):
        found = [o.info.get(name) for o in main.get("meta", ())]
        if any(found):
            document[name] = found
    return document
