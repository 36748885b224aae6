"""The whisker chart: figures with intervals, beside published ones."""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.frame import Frame, nice_ticks, padded
from pipeline.report.svg import Label
from serving.contract.intervals import Interval


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
    frame = Frame(
        width=460,
        height=30 + row_height * len(rows) + 42,
        left=128,
        right=18,
        top=10,
        bottom=42,
        x_range=padded(values),
        # Rows go downwards, the frame counts upwards.
        y_range=(len(rows) - 0.5, -0.5),
    )
    ticks = nice_ticks(*frame.x_range)
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


def _whisker(frame: Frame, index: int, row: Whisker) -> Markup:
    y, figure = frame.y(index), row.figure
    x = frame.x(figure.value)
    parts = [svg.tag("text", row.name, x=0, y=y + 5, class_="row-name")]
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        parts.append(
            svg.tag(
                "line",
                x1=frame.x(figure.low),
                x2=frame.x(figure.high),
                y1=y,
                y2=y,
                class_=f"whisker {row.style}",
            )
        )
    parts += [
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
