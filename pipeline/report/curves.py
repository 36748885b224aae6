"""Sections on how quality grows: window by window, and after k events."""

import numpy as np

from pipeline.replay import ReplayResult
from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.report.line import Series, line_chart
from pipeline.report.svg import Label
from serving.contract import protocol
from serving.contract.intervals import Interval, Rows, bootstrap
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES

_NO_INTERVAL = (float("nan"),) * 3
_DRAWS_PER_WINDOW = 300


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
        drawing = line_chart(
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
    drawing = line_chart(
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


def _figure(interval: Interval) -> str:
    if not np.isfinite(interval.value):
        return "-"
    return f"{interval.value:.4f} ({interval.between('.4f')})"
