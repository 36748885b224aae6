"""The section on where the scores lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.report.histogram import Histogram, histogram_chart
from pipeline.report.svg import Label
from serving.contract.labels import liked
from serving.contract.regimes import REGIMES

_BINS = 40


def score_section(inputs: ReportInputs) -> Section:
    """Where the scores of both classes lie in each regime."""
    result = inputs.result
    pooled = np.concatenate([result.scores[r] for r in REGIMES])
    low, high = np.percentile(pooled, (0.5, 99.5))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    positive = liked(result.rows.label)
    shares = {
        regime: [
            _shares(result.scores[regime][chosen], edges)
            for chosen in (~positive, positive)
        ]
        for regime in REGIMES
    }
    y_max = max(
        float(s.max(initial=0.0)) for two in shares.values() for s in two
    )
    panels, rows = [], []
    for regime in REGIMES:
        negatives, positives = shares[regime]
        label = Label(
            f"scores-{regime}",
            f"Scores of {regime}",
            f"Distribution of logits of positives and negatives in {regime}.",
        )
        drawing = histogram_chart(
            [
                Histogram("negative", "negative", negatives.tolist()),
                Histogram("positive", regime, positives.tolist()),
            ],
            edges.tolist(),
            label=label,
            x_title="logit",
            y_max=y_max,
        )
        panels.append(Panel(regime, drawing))
        for name, chosen in (("positive", positive), ("negative", ~positive)):
            values = result.scores[regime][chosen]
            rows.append((regime, name, *_quartiles(values)))
    return Section(
        anchor="scores",
        heading="Where the scores lie",
        reading=(
            "Filled: events the user liked. Dashed outline: the others. The "
            "less the two overlap, the better the list. The outermost 1% of "
            "the scores is left out.",
        ),
        panels=panels,
        table=DataTable(
            ("regime", "class", "5%", "25%", "median", "75%", "95%"), rows
        ),
    )


def _shares(
    values: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1)


def _quartiles(values: NDArray[np.float64]) -> Sequence[str]:
    if not len(values):
        return ["-"] * 5
    return [f"{v:.2f}" for v in np.percentile(values, (5, 25, 50, 75, 95))]
