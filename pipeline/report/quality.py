"""Sections on quality: lifts, windows of the stream, k events, scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.regimes import JOINT, OFFLINE, ONLINE, REGIMES
from pipeline.replay import ReplayResult
from pipeline.report import charts
from pipeline.report.charts import Label, Series, Whisker
from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.summary import LIFTS, PAPER_LIFT
from serving.contract import protocol
from serving.contract.intervals import Interval, Rows, bootstrap
from serving.contract.labels import liked

_NO_INTERVAL = (float("nan"),) * 3
_DRAWS_PER_WINDOW = 300
_BINS = 40


def lift_section(inputs: ReportInputs) -> Section:
    """How much each stage gains, beside what the paper reports."""
    summary = inputs.summary
    kinds = (("AUC", summary.lift), ("wGAUC", summary.wgauc_lift))
    rows = [
        Whisker(
            f"{name}, {kind}",
            name,
            lifts[name],
            PAPER_LIFT[name] if kind == "AUC" else None,
        )
        for name in LIFTS
        for kind, lifts in kinds
    ]
    offline, online = summary.lift[OFFLINE], summary.lift[ONLINE]
    reading = (
        f"Learning from a user's first {protocol.FIRST_SUPPORT_EVENTS} "
        f"events {_gains(offline)} over scoring from features alone; "
        f"learning on from every window {_gains(online)} more. A difference "
        "whose line crosses zero could be chance.",
        "The paper's figures come from its own production data and say what "
        "is possible there; here they are a yardstick, not a rival.",
    )
    label = Label(
        "lift",
        "Lift of each stage",
        "Lift in points of AUC and wGAUC with 95% intervals, beside the "
        "paper's AUC lifts.",
    )
    return Section(
        anchor="lift",
        heading="What each stage gains",
        reading=reading,
        panels=[
            Panel("", charts.whisker_chart(rows, label=label, x_title="points"))
        ],
        table=DataTable(
            ("lift", "points", "95%", "paper"),
            [
                (
                    row.name,
                    f"{row.figure.value:+.2f}",
                    f"{row.figure.low:+.2f} to {row.figure.high:+.2f}",
                    "" if row.reference is None else f"{row.reference:+.2f}",
                )
                for row in rows
            ],
        ),
    )


def window_section(inputs: ReportInputs) -> Section:
    """How good each regime is as events keep coming."""
    by_window = figures_by_window(inputs.result)
    count = len(by_window["auc"][JOINT])
    names = [_window_name(index) for index in range(count)]
    panels, rows = [], []
    for figure, heading in (("auc", "AUC"), ("wgauc", "wGAUC")):
        series = [Series(r, r, by_window[figure][r]) for r in REGIMES]
        label = Label(
            f"window-{figure}",
            f"{heading} by window",
            f"{heading} of joint, offline and online in each window, with "
            "95% intervals.",
        )
        drawing = charts.line_chart(
            series, names, label=label, x_title="events of the user"
        )
        panels.append(Panel(heading, drawing))
        rows += [
            (
                heading,
                name,
                *(_figure(by_window[figure][r][w]) for r in REGIMES),
            )
            for w, name in enumerate(names)
        ]
    first = _difference(by_window["auc"], 0)
    last = _difference(by_window["auc"], count - 1)
    return Section(
        anchor="windows",
        heading="As events keep coming",
        reading=(
            f"Each window is {protocol.WINDOW_EVENTS} events that nobody had "
            "seen when it was ranked. In the first one online and offline "
            f"know the same and differ by {first:+.2f} points of AUC; in the "
            f"last one by {last:+.2f}. AUC compares all events of a window "
            "across users. wGAUC only compares events of the same user, so "
            "it moves only if that user's list gets better.",
            "Later windows hold fewer users, because not everybody has that "
            "many events; their intervals are wider.",
        ),
        panels=panels,
        table=DataTable(("figure", "events", *REGIMES), rows),
    )


def few_shot_section(inputs: ReportInputs) -> Section | None:
    """How good the model is after k events; None without an evaluation."""
    by_model = inputs.few_shot_auc
    if not by_model:
        return None
    sizes = sorted({k for figures in by_model.values() for k in figures})
    missing = Interval(*_NO_INTERVAL)
    series = [
        Series(
            model,
            model if model in REGIMES else ONLINE,
            [figures.get(k, missing) for k in sizes],
        )
        for model, figures in by_model.items()
    ]
    start, stop = protocol.FEW_SHOT_QUERY_EVENTS
    label = Label(
        "few-shot",
        "AUC after k events",
        "AUC on a fixed query set after 0 to 20 events, with 95% intervals.",
    )
    drawing = charts.line_chart(
        series,
        [str(k) for k in sizes],
        label=label,
        x_title="k, events learned from",
    )
    return Section(
        anchor="few-shot",
        heading="After k events",
        reading=(
            f"Everybody is judged on the same events ({start + 1} to {stop} "
            "of each user), whatever k is: a difference between two points "
            "of a line is the worth of the events in between. Measured by "
            "the offline evaluator.",
        ),
        panels=[Panel("AUC", drawing)],
        table=DataTable(
            ("model", *(f"k = {k}" for k in sizes)),
            [(s.name, *(_figure(p) for p in s.points)) for s in series],
        ),
    )


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
        drawing = charts.histogram_chart(
            [
                charts.Histogram("negative", "negative", negatives.tolist()),
                charts.Histogram("positive", regime, positives.tolist()),
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


def figures_by_window(
    result: ReplayResult,
) -> dict[str, dict[str, list[Interval]]]:
    """Works out AUC and wGAUC of each window.

    Args:
        result: The replay.

    Returns:
        `{"auc" | "wgauc": {regime: [Interval per window]}}`; NaN where a
        window lacks one of the classes.
    """
    rows = result.rows
    figures: dict[str, dict[str, list[Interval]]] = {
        figure: {r: [] for r in REGIMES} for figure in ("auc", "wgauc")
    }
    for window in range(int(rows.window.max()) + 1):
        chosen = np.flatnonzero(rows.window == window)
        label = rows.label[chosen]
        if len(np.unique(label)) < 2:
            for by_regime in figures.values():
                for intervals in by_regime.values():
                    intervals.append(Interval(*_NO_INTERVAL))
            continue
        _, user = np.unique(rows.user[chosen], return_inverse=True)
        drawn = bootstrap(
            Rows(user, np.zeros_like(user), label),
            {r: result.scores[r][chosen] for r in REGIMES},
            draws=_DRAWS_PER_WINDOW,
        )
        for figure, by_regime in figures.items():
            for regime, intervals in by_regime.items():
                intervals.append(drawn[figure][regime])
    return figures


def _window_name(index: int) -> str:
    first = protocol.FIRST_SUPPORT_EVENTS + index * protocol.WINDOW_EVENTS
    return f"{first + 1}-{first + protocol.WINDOW_EVENTS}"


def _difference(auc: dict[str, list[Interval]], window: int) -> float:
    return 100.0 * (auc[ONLINE][window].value - auc[OFFLINE][window].value)


def _gains(lift: Interval) -> str:
    verb = "gains" if lift.value >= 0 else "loses"
    return f"{verb} {abs(lift.value):.2f} points of AUC"


def _figure(interval: Interval) -> str:
    if not np.isfinite(interval.value):
        return "-"
    return f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _shares(
    values: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1)


def _quartiles(values: NDArray[np.float64]) -> Sequence[str]:
    if not len(values):
        return ["-"] * 5
    return [f"{v:.2f}" for v in np.percentile(values, (5, 25, 50, 75, 95))]
