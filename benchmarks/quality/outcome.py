"""What a training comes to: scores of meta_test, and what they cost."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.quality.inputs import Judged
from serving.contract import metrics
from trainer.scorer import Learning, Scorer, score_few_shot, score_stream
from trainer.tasks import LabelledRows
from trainer.training import TrainingResult
from trainer.two_tower import PartitionedTwoTower

_TIMED_CALLS = 20

Scores = NDArray[np.float32]


@dataclasses.dataclass
class Outcome:
    """What a training comes to.

    Attributes:
        value: On meta_valid, what tuning maximizes.
        info: Steps, seconds, bytes: ready for JSON.
        stream: Scores of the judged rows of meta_test by regime.
        few_shot: Scores of the query sets by regime and k.
        code: Digest of the sources that made it; None if it was not noted.
    """

    value: float
    info: dict[str, Any]
    stream: dict[str, Scores] = dataclasses.field(default_factory=dict)
    few_shot: dict[str, dict[int, Scores]] = dataclasses.field(
        default_factory=dict
    )
    code: str | None = None

    def add_stream(
        self, judged: Judged, scorer: Scorer, regimes: Mapping[str, Learning]
    ) -> None:
        """Scores meta_test's stream.

        Args:
            judged: Its users.
            scorer: What is judged.
            regimes: When it learns, by name of the regime.
        """
        scores = score_stream(
            scorer, judged.users.ids, judged.steps, list(regimes.values())
        )
        for name, learning in regimes.items():
            self.stream[name] = judged.flat(scores[learning])

    def add_few_shot(self, judged: Judged, scorer: Scorer, regime: str) -> None:
        """Scores meta_test's query sets for every k."""
        self.few_shot[regime] = {
            size: judged.flat_few_shot(
                score_few_shot(scorer, judged.users.ids, step)
            )
            for size, step in judged.few_shot.items()
        }

    @classmethod
    def of_training(
        cls, result: TrainingResult, value: float, start: float
    ) -> "Outcome":
        """The outcome of a training that began at `start`."""
        return cls(
            value,
            {
                "seconds": time.perf_counter() - start,
                "best_step": result.best_step,
                "steps": result.steps,
                "meta_valid": dataclasses.asdict(result.figures),
            },
        )


def quality(judged: Judged, scores: Scores) -> float:
    """Mean of AUC and wGAUC of scores of a stream's rows."""
    rows = judged.stream_rows
    return (
        metrics.auc(rows.label, scores)
        + metrics.wgauc(rows.label, scores, rows.group)
    ) / 2


def first_user(judged: Judged) -> tuple[Mapping[str, tf.Tensor], LabelledRows]:
    """Features and first support set of one user."""
    ids = {name: values[:1] for name, values in judged.users.ids.items()}
    support = judged.steps[0].support
    one = support.weight[0] > 0
    return ids, LabelledRows(*(values[:1, one] for values in support))


def adapt_seconds(scorer: Scorer, judged: Judged) -> float:
    """Median seconds in which one user's first support set is learned."""
    ids, support = first_user(judged)
    state = scorer.begin(ids)
    learn = tf.function(lambda rows: scorer.learn(state, rows))
    rows = LabelledRows(*(tf.constant(values) for values in support))
    learn(rows)
    seconds = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        tf.nest.map_structure(np.asarray, learn(rows))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def partition_map(model: PartitionedTwoTower) -> list[dict[str, Any]]:
    """What adapts, and how far: entries and step sizes by parameter."""
    steps = model.inner_loop.step_sizes()
    by_name = {p.name: p for p in model.partition.parameters}
    found = []
    for name, shape in model.partition.shapes.items():
        row: dict[str, Any] = {
            "name": name,
            "values": int(np.prod(shape)),
            "adaptive": 0,
            "step_sizes": [],
        }
        if name in by_name:
            parameter = by_name[name]
            stop = parameter.offset + parameter.size
            row["adaptive"] = parameter.size
            row["step_sizes"] = steps[parameter.offset : stop].tolist()
        found.append(row)
    return found
