"""The line chart: figures over ordered steps, with their intervals."""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.frame import Frame, nice_ticks, padded, spread
from pipeline.report.svg import Label
from serving.contract.intervals import Interval

_MARKERS = {"joint": "square", "offline": "diamond", "online": "circle"}


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: Written at its end.
        style: CSS class that colours it; also picks its marker.
        points: Figures with intervals; NaN where there is none.
    """

    name: str
    style: str
    points: Sequence[Interval]


def line_chart(
    series: Sequence[Series],
    x_labels: Sequence[str],
    *,
    label: Label,
    x_title: str,
) -> Markup:
    """Draws figures over ordered steps, with their intervals as bands.

    Args:
        series: The lines; all have one point per step.
        x_labels: What each step is called.
        label: What the chart is called.
        x_title: What the steps are.

    Returns:
        The drawing.
    """
    values = [
        value
        for s in series
        for p in s.points
        for value in (p.low, p.high, p.value)
    ]
    steps = range(len(x_labels))
    frame = Frame(
        width=460,
        height=290,
        left=46,
        right=16 + 7.5 * max(len(s.name) for s in series),
        top=12,
        bottom=42,
        x_range=(-0.25, len(x_labels) - 0.75),
        y_range=padded(values, 0.05),
    )
    parts = [
        svg.y_axis(frame, nice_ticks(*frame.y_range)),
        svg.x_axis(frame, list(zip(steps, x_labels, strict=True)), x_title),
    ]
    parts += [_band(frame, s) for s in series]
    parts += [_line(frame, s) for s in series]
    parts.append(_line_names(frame, series))
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def _band(frame: Frame, series: Series) -> Markup:
    there = [
        (frame.x(step), point)
        for step, point in enumerate(series.points)
        if math.isfinite(point.low) and math.isfinite(point.high)
    ]
    upper = [(x, frame.y(point.high)) for x, point in there]
    lower = [(x, frame.y(point.low)) for x, point in reversed(there)]
    return svg.tag(
        "path", d=svg.path(upper + lower, True), class_=f"band {series.style}"
    )


def _line(frame: Frame, series: Series) -> Markup:
    places = [
        (frame.x(step), frame.y(point.value))
        for step, point in enumerate(series.points)
    ]
    parts = [svg.tag("path", d=svg.path(places), class_=f"line {series.style}")]
    for (x, y), point in zip(places, series.points, strict=True):
        if math.isfinite(y):
            hint = f"{series.name}: {point.value:.4f} ({point.between('.4f')})"
            mark = svg.marker(
                _MARKERS.get(series.style, "circle"),
                x,
                y,
                class_=f"mark {series.style}",
            )
            parts.append(svg.group([svg.tag("title", hint), mark]))
    return svg.group(parts)


def _line_names(frame: Frame, series: Sequence[Series]) -> Markup:
    named = [
        (s, [p.value for p in s.points if math.isfinite(p.value)])
        for s in series
    ]
    named = [(s, values) for s, values in named if values]
    wanted = [frame.y(values[-1]) for _, values in named]
    places = spread(wanted, 17, frame.top + 6, frame.y_end)
    return svg.group(
        svg.tag(
            "text",
            s.name,
            x=frame.x_end + 8,
            y=y + 4,
            class_=f"name {s.style}",
        )
        for (s, _), y in zip(named, places, strict=True)
    )
