"""What ColdStartEvaluator found, read back from its artifact."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from serving.contract.intervals import Interval
from serving.contract.regimes import JOINT

# The model that adapts, as the curves over k call it.
ADAPTIVE = "adaptive"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The offline evaluator's figures and row-level scores.

    Attributes:
        stream: One row per judged row of a stream: `user_id`, `window`,
            `item_id`, `label`, and a logit per regime.
        few_shot_auc: AUC on the fixed query set by model and k; `joint`
            learns nothing, its figure is the same for every k.
    """

    stream: pa.Table
    few_shot_auc: Mapping[str, Mapping[int, Interval]]


def load_evaluation(evaluation_dir: str | os.PathLike[str]) -> Evaluation:
    """Reads the evaluator's `evaluation` artifact.

    Args:
        evaluation_dir: URI of the artifact.

    Returns:
        The evaluation.

    Raises:
        ConfigError: The folder does not hold one.
    """
    folder = Path(evaluation_dir)
    figures = folder / "evaluation.json"
    scores = folder / "scores" / "stream"
    if not figures.is_file() or not scores.is_dir():
        raise ConfigError(
            f"{folder} holds no evaluation: `evaluation.json` and "
            "`scores/stream/` are expected. Run the pipeline up to "
            "ColdStartEvaluator first (`adaptower run`)."
        )
    values = json.loads(figures.read_text(encoding="utf-8"))
    by_k = values.get("few_shot", {}).get("by_k", {})
    return Evaluation(pq.read_table(scores), _few_shot_auc(by_k))


def _few_shot_auc(
    by_k: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[int, Interval]]:
    adaptive = {
        int(k): _interval(figures["auc"])
        for k, figures in by_k.items()
        if k != JOINT
    }
    curves = {ADAPTIVE: adaptive} if adaptive else {}
    if JOINT in by_k:
        joint = _interval(by_k[JOINT]["auc"])
        curves = {JOINT: dict.fromkeys(adaptive, joint), **curves}
    return curves


def _interval(values: Mapping[str, float | None]) -> Interval:
    """Reads an interval; a figure that has no value is null in JSON."""
    ends = (values[name] for name in ("value", "low", "high"))
    return Interval(*(math.nan if end is None else end for end in ends))
