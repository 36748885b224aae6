"""The bar chart: amounts beside each other."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.frame import Frame
from pipeline.report.svg import Label


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
    frame = Frame(
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
