"""The histogram: distributions over the same bins."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.frame import Frame, nice_ticks
from pipeline.report.svg import Label


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
    frame = Frame(
        width=width,
        height=130 + width / 5,
        left=8,
        right=8,
        top=26,
        bottom=42,
        x_range=(edges[0], edges[-1]),
        y_range=(0.0, highest or 1.0),
    )
    ticks = [(v, f"{v:g}") for v in nice_ticks(*frame.x_range, count=5)]
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
