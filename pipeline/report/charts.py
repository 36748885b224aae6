"""The kinds of charts in the report, each a function from data to SVG."""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from serving.contract.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Label:
    """What a chart is called; see `svg.drawing`."""

    name: str
    title: str
    description: str


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


_MARKERS = {"joint": "square", "offline": "diamond", "online": "circle"}


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
    frame = svg.Frame(
        width=460,
        height=290,
        left=46,
        right=16 + 7.5 * max(len(s.name) for s in series),
        top=12,
        bottom=42,
        x_range=(-0.25, len(x_labels) - 0.75),
        y_range=svg.padded(values, 0.05),
    )
    parts = [
        svg.y_axis(frame, svg.nice_ticks(*frame.y_range)),
        svg.x_axis(frame, list(zip(steps, x_labels, strict=True)), x_title),
    ]
    parts += [_band(frame, s) for s in series]
    parts += [_line(frame, s) for s in series]
    parts.append(_line_names(frame, series))
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def _band(frame: svg.Frame, series: Series) -> Markup:
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


def _line(frame: svg.Frame, series: Series) -> Markup:
    places = [
        (frame.x(step), frame.y(point.value))
        for step, point in enumerate(series.points)
    ]
    parts = [svg.tag("path", d=svg.path(places), class_=f"line {series.style}")]
    for (x, y), point in zip(places, series.points, strict=True):
        if math.isfinite(y):
            hint = (
                f"{series.name}: {point.value:.4f} "
                f"({point.low:.4f} to {point.high:.4f})"
            )
            mark = svg.marker(
                _MARKERS.get(series.style, "circle"),
                x,
                y,
                class_=f"mark {series.style}",
            )
            parts.append(svg.group([svg.tag("title", hint), mark]))
    return svg.group(parts)


def _line_names(frame: svg.Frame, series: Sequence[Series]) -> Markup:
    named = [
        (s, [p.value for p in s.points if math.isfinite(p.value)])
        for s in series
    ]
    named = [(s, values) for s, values in named if values]
    wanted = [frame.y(values[-1]) for _, values in named]
    places = svg.spread(wanted, 17, frame.top + 6, frame.y_end)
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


@dataclasses.dataclass(frozen=True)
class Whisker:
    """One row of a `whisker_chart`.

    Attributes:
        name: At the left.
        style: CSS class that colours it.
        figure: The figure with its interval.
        reference: A published figure to set beside it, if there is one.
    """

    name: str
    style: str
    figure: Interval
    reference: float | None = None


def whisker_chart(
    rows: Sequence[Whisker], *, label: Label, x_title: str
) -> Markup:
    """Draws figures with intervals in rows, beside published ones.

    Args:
        rows: From top to bottom.
        label: What the chart is called.
        x_title: What is measured.

    Returns:
        The drawing.
    """
    values = [0.0]
    for row in rows:
        values += [row.figure.low, row.figure.high, row.figure.value]
        values += [] if row.reference is None else [row.reference]
    row_height = 54
    frame = svg.Frame(
        width=460,
        height=30 + row_height * len(rows) + 42,
        left=128,
        right=18,
        top=10,
        bottom=42,
        x_range=svg.padded(values),
        # Rows go downwards, the frame counts upwards.
        y_range=(len(rows) - 0.5, -0.5),
    )
    ticks = svg.nice_ticks(*frame.x_range)
    parts = [
        svg.tag(
            "line",
            x1=frame.x(value),
            x2=frame.x(value),
            y1=frame.top,
            y2=frame.y_end,
            class_="axis" if value == 0 else "rule",
        )
        for value in ticks
    ]
    parts.append(
        svg.x_axis(frame, [(value, f"{value:+g}") for value in ticks], x_title)
    )
    parts += [
        _whisker(frame, index, row)
        for index, row in enumerate(rows)
        if math.isfinite(row.figure.value)
    ]
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def _whisker(frame: svg.Frame, index: int, row: Whisker) -> Markup:
    y, figure = frame.y(index), row.figure
    x = frame.x(figure.value)
    parts = [
        svg.tag("text", row.name, x=0, y=y + 5, class_="row-name"),
        svg.tag(
            "line",
            x1=frame.x(figure.low),
            x2=frame.x(figure.high),
            y1=y,
            y2=y,
            class_=f"whisker {row.style}",
        ),
        svg.marker("circle", x, y, class_=f"mark {row.style}"),
        svg.tag(
            "text",
            f"{figure.value:+.2f}",
            x=x,
            y=y - 11,
            class_=f"value middle {row.style}",
        ),
    ]
    if row.reference is not None:
        place = frame.x(row.reference)
        parts += [
            svg.tag("title", f"{row.name}: paper {row.reference:+.2f}"),
            svg.marker("diamond", place, y, class_="reference"),
            svg.tag(
                "text",
                f"paper {row.reference:+.2f}",
                x=place,
                y=y + 19,
                class_="tick middle",
            ),
        ]
    return svg.group(parts)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Shares of values in equal bins.

    Attributes:
        name: What is counted.
        style: CSS classes of the area.
        shares: Share of the values in each bin, shape [bins].
    """

    name: str
    style: str
    shares: Sequence[float]


def histogram_chart(
    histograms: Sequence[Histogram],
    edges: Sequence[float],
    *,
    label: Label,
    x_title: str,
    marks: Sequence[tuple[float, str]] = (),
    y_max: float | None = None,
    width: float = 300,
) -> Markup:
    """Draws distributions over the same bins as stepped areas.

    Args:
        histograms: One or more, drawn over each other.
        edges: Of the bins, shape [bins + 1].
        label: What the chart is called.
        x_title: What is binned.
        marks: Values to mark with a line, and what to call them.
        y_max: Upper end, so that charts beside each other compare.
        width: Of the drawing; what shares a row should share it out.

    Returns:
        The drawing.
    """
    highest = y_max or max(max(h.shares, default=0.0) for h in histograms)
    frame = svg.Frame(
        width=width,
        height=130 + width / 5,
        left=8,
        right=8,
        top=26,
        bottom=42,
        x_range=(edges[0], edges[-1]),
        y_range=(0.0, highest or 1.0),
    )
    ticks = [(v, f"{v:g}") for v in svg.nice_ticks(*frame.x_range, count=5)]
    parts = [svg.x_axis(frame, ticks, x_title)]
    for histogram in histograms:
        outline = [(frame.x(edges[0]), frame.y(0.0))]
        for index, share in enumerate(histogram.shares):
            y = frame.y(share)
            outline += [
                (frame.x(edges[index]), y),
                (frame.x(edges[index + 1]), y),
            ]
        outline.append((frame.x(edges[-1]), frame.y(0.0)))
        parts.append(
            svg.tag(
                "path", d=svg.path(outline), class_=f"area {histogram.style}"
            )
        )
    for value, text in marks:
        x = frame.x(min(value, frame.x_range[1]))
        at_end = x > (frame.left + frame.x_end) / 2
        parts += [
            svg.tag("line", x1=x, x2=x, y1=14, y2=frame.y_end, class_="cursor"),
            svg.tag(
                "text",
                text,
                x=x + (-5 if at_end else 5),
                y=22,
                class_="tick end" if at_end else "tick",
            ),
        ]
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def bar_chart(
    bars: Sequence[tuple[str, float]], *, label: Label, unit: str
) -> Markup:
    """Draws amounts as horizontal bars with their values.

    Args:
        bars: Name and amount, from top to bottom.
        label: What the chart is called.
        unit: Written after each amount.

    Returns:
        The drawing.
    """
    row_height = 26
    longest = max((amount for _, amount in bars), default=0.0)
    frame = svg.Frame(
        width=560,
        height=row_height * len(bars) + 8,
        left=190,
        right=76,
        top=4,
        bottom=4,
        x_range=(0.0, longest or 1.0),
        y_range=(0.0, 1.0),
    )
    parts = []
    for index, (name, amount) in enumerate(bars):
        y = frame.top + row_height * index
        end = frame.x(amount)
        parts += [
            svg.tag("text", name, x=0, y=y + 17, class_="row-name"),
            svg.tag(
                "rect",
                x=frame.left,
                y=y + 5,
                width=max(end - frame.left, 1.0),
                height=row_height - 10,
                rx=2,
                class_="bar",
            ),
            svg.tag(
                "text",
                f"{amount:,.1f} {unit}",
                x=end + 6,
                y=y + 17,
                class_="tick",
            ),
        ]
    return svg.drawing(frame, parts, **dataclasses.asdict(label))
