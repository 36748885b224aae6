"""Tunes every training alike: the same draws, judged on meta_valid.

Trial 0 is what the dataset comes with; the others draw step size and
regularization at random around it, the same draws for every training, so that
none has seen more of meta_valid than another. Only the oracle has three times
the trials, its priors and steps being drawn beside: what the others are
measured against had better not be too low. Seed 0 throughout; meta_test is not
looked at.
"""

import logging
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.quality.cells import read_json, write_json
from benchmarks.quality.inputs import Inputs
from benchmarks.quality.sources import CODE, current_code, is_stale
from benchmarks.quality.trainings import TRAININGS

_LOG = logging.getLogger(__name__)

Values = Mapping[str, Any]

_DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.4)
_ORACLE = "oracle"
_ORACLE_SHARE = 3
# Has nothing of the kind.
_NOT_DRAWN = "items"


def draw_values(training: str, trials: int) -> list[dict[str, Any]]:
    """Hyper-parameters to try, by name; the first trial changes nothing."""
    random = np.random.default_rng(0)
    own = np.random.default_rng(1)
    drawn: list[dict[str, Any]] = [{}]
    count = (trials - 1) * (_ORACLE_SHARE if training == _ORACLE else 1)
    for _ in range(count):
        values = {
            "outer_lr": _log_uniform(random, 1e-3, 4e-3),
            "item_l2": _log_uniform(random, 2e-5, 4e-4),
            "dropout": float(random.choice(_DROPOUTS)),
        }
        if training == _ORACLE:
            values |= {
                "vector_precision": _log_uniform(own, 2.0, 50.0),
                "bias_precision": _log_uniform(own, 0.5, 10.0),
                "own_rate": float(own.choice([1.0, 3.0, 10.0, 30.0])),
                "first_steps": int(own.choice([500, 800, 1500])),
                "steps_per_window": int(own.choice([100, 200, 300])),
            }
        drawn.append(values)
    return drawn[:1] if training == _NOT_DRAWN else drawn


def tune(
    inputs: Inputs,
    training: str,
    base: Values,
    trials: int,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Tries hyper-parameters; goes on where it was killed.

    Args:
        inputs: The dataset.
        training: Key of `TRAININGS`.
        base: Hyper-parameters that the dataset comes with.
        trials: How many to try; 1 tries nothing but `base`.
        folder: Where trials are kept, as JSON.

    Returns:
        The best trial's hyper-parameters, `base` included, without seed.
    """
    if trials > 1:
        _try_all(inputs, training, base, trials, folder)
    return best_known(training, base, trials, folder)


def best_known(
    training: str, base: Values, trials: int, folder: pathlib.Path
) -> dict[str, Any]:
    """Hyper-parameters of the best of these trials; `base` if none is done."""
    if trials == 1:
        return dict(base)
    wanted = _wanted(training, base, trials)
    done = [
        trial
        for trial in read_json(folder / f"{training}.json", default=[])
        if trial["values"] in wanted and trial["value"] is not None
    ]
    if not done:
        return dict(base)
    return dict(max(done, key=lambda trial: trial["value"])["values"])


def _wanted(training: str, base: Values, trials: int) -> list[dict[str, Any]]:
    return [{**base, **drawn} for drawn in draw_values(training, trials)]


def _try_all(
    inputs: Inputs,
    training: str,
    base: Values,
    trials: int,
    folder: pathlib.Path,
) -> None:
    path = folder / f"{training}.json"
    done = read_json(path, default=[])
    for values in _wanted(training, base, trials):
        known = [trial for trial in done if trial["values"] == values]
        if any(not is_stale(trial.get(CODE)) for trial in known):
            continue
        outcome = TRAININGS[training](
            inputs, {**values, "seed": 0}, False, str(folder / "tensorboard")
        )
        value = outcome.value if math.isfinite(outcome.value) else None
        # In place of what other sources came to.
        done = [trial for trial in done if trial not in known]
        trial = {"values": values, "value": value, "info": outcome.info}
        done.append(trial | {CODE: current_code()})
        _LOG.info("%s: %s for %s", training, value, values)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, done)


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    drawn = math.exp(random.uniform(math.log(low), math.log(high)))
    return float(f"{drawn:.3g}")
