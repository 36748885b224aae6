"""Sections on what serving and the run cost: latency, bytes, time."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.report.bars import bar_chart
from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.report.histogram import Histogram, histogram_chart
from pipeline.report.svg import Label
from pipeline.summary import Latency

_BINS = 40


def latency_section(inputs: ReportInputs) -> Section:
    """How long a client waits, and what a user costs in the store."""
    summary, result = inputs.summary, inputs.result
    calls = (
        ("Rank", "online", result.rank_ms, summary.rank_ms),
        ("SubmitFeedback", "offline", result.feedback_ms, summary.feedback_ms),
    )
    sizes = summary.bytes_per_user
    candidates = np.median(result.rank_rows) if len(result.rank_rows) else 0
    return Section(
        anchor="latency",
        heading="What it costs to serve",
        reading=(
            f"Half of all Rank calls took {summary.rank_ms.p50:.1f} ms or "
            f"less (a median of {candidates:.0f} candidates each), half of "
            f"all feedback {summary.feedback_ms.p50:.1f} ms: reading the "
            "user's record, running the inner loop in the model server and "
            "storing the new weights. Measured at the client, one call at a "
            "time, on the machine that also ran the servers.",
            f"A user costs {sizes['weights']:,.0f} bytes of adaptive "
            f"weights; the whole record, with its reservoir of events, is "
            f"{sizes['record']:,.0f} bytes.",
        ),
        panels=[
            Panel(name, _latencies(name, style, values, latency))
            for name, style, values, latency in calls
            if len(values)
        ],
        table=DataTable(
            ("call", "calls", "p50", "p99"),
            [
                (
                    name,
                    f"{len(values):,}",
                    f"{latency.p50:.2f} ms",
                    f"{latency.p99:.2f} ms",
                )
                for name, _, values, latency in calls
            ],
        ),
    )


def stage_section(inputs: ReportInputs) -> Section | None:
    """Where the time of the run went; None if it was not measured."""
    seconds = inputs.summary.stage_seconds
    if not seconds:
        return None
    longest = max(seconds, key=lambda stage: seconds[stage])
    total = sum(seconds.values())
    label = Label(
        "stages",
        "Time of each stage",
        "Seconds that each stage of the run took.",
    )
    return Section(
        anchor="stages",
        heading="Where the time went",
        reading=(
            f"The run took {total:,.0f} seconds, {longest} the longest part of "
            "it. A second run with nothing changed takes its stages from the "
            "cache.",
        ),
        panels=[
            Panel(
                "",
                bar_chart(list(seconds.items()), label=label, unit="s"),
            )
        ],
        table=DataTable(
            ("stage", "seconds"),
            [(stage, f"{took:,.1f}") for stage, took in seconds.items()],
        ),
    )


def _latencies(
    name: str, style: str, values: NDArray[np.float64], latency: Latency
) -> Markup:
    # The slowest few would squeeze all others into one bin.
    high = max(float(np.percentile(values, 99.5)), 1e-3)
    edges = np.linspace(0.0, high, _BINS + 1)
    counts, _ = np.histogram(np.clip(values, 0.0, high), edges)
    shares = (counts / len(values)).tolist()
    label = Label(
        f"latency-{name.lower()}",
        f"Latency of {name}",
        f"Distribution of milliseconds per {name} call, with p50 and p99.",
    )
    return histogram_chart(
        [Histogram(name, style, shares)],
        edges.tolist(),
        label=label,
        x_title="milliseconds",
        width=460,
        marks=[(latency.p50, "p50"), (latency.p99, "p99")],
    )
