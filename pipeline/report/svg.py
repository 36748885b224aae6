"""Small pieces that charts are drawn from: safe SVG elements, markers, axes.

Charts are inline SVG without scripts, fonts or colours of their own: colours
are CSS classes, so one drawing serves light and dark pages, and everything
that comes from data goes through `markupsafe`, which escapes it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from pipeline.report.frame import Frame, tick_labels


@dataclasses.dataclass(frozen=True)
class Label:
    """What a chart is called; see `drawing`."""

    name: str
    title: str
    description: str


def tag(name: str, content: object = None, **attributes: object) -> Markup:
    """Returns one element; names use `_` for `-`, `class_` for `class`.

    Args:
        name: Of the element.
        content: Text (escaped) or markup inside it; none for an empty one.
        **attributes: Numbers are rounded to a tenth of a unit.

    Returns:
        The element.
    """
    text = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), _attribute(value)
        )
        for key, value in attributes.items()
        if value is not None
    )
    if content is None:
        return Markup("<{}{}/>").format(Markup(name), text)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), text, content)


def group(parts: Iterable[Markup], **attributes: object) -> Markup:
    """Returns elements joined into a `<g>`."""
    return tag("g", Markup("").join(parts), **attributes)


def drawing(
    frame: Frame,
    parts: Iterable[Markup],
    *,
    name: str,
    title: str,
    description: str,
) -> Markup:
    """Returns a complete `<svg>` that a screen reader can announce.

    Args:
        frame: Gives the size.
        parts: What to draw.
        name: Unique on the page; ids are made from it.
        title: A few words.
        description: What the chart shows, in a sentence.

    Returns:
        The drawing.
    """
    body = [
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        *parts,
    ]
    return tag(
        "svg",
        Markup("").join(body),
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def path(points: Iterable[tuple[float, float]], close: bool = False) -> str:
    """Returns the `d` of a polyline; points that are not finite break it."""
    commands: list[str] = []
    pen_down = False
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = True
    return "".join(commands) + ("Z" if close and commands else "")


def marker(shape: str, x: float, y: float, **attributes: object) -> Markup:
    """Returns a marker, so that lines differ by more than colour.

    Args:
        shape: `circle`, `square` or `diamond`.
        x: Its centre.
        y: Its centre.
        **attributes: Of the element.

    Returns:
        The element.
    """
    if shape == "circle":
        return tag("circle", cx=x, cy=y, r=4, **attributes)
    size = 3.6 if shape == "square" else 5.2
    if shape == "square":
        corners = [(-size, -size), (size, -size), (size, size), (-size, size)]
    else:
        corners = [(0, -size), (size, 0), (0, size), (-size, 0)]
    points = [(x + dx, y + dy) for dx, dy in corners]
    return tag("path", d=path(points, close=True), **attributes)


def y_axis(frame: Frame, ticks: Sequence[float]) -> Markup:
    """Returns horizontal rules with their values at the left."""
    parts = []
    for value, label in zip(ticks, tick_labels(ticks), strict=True):
        y = frame.y(value)
        parts.append(_across(frame, y, "rule"))
        parts.append(
            tag(
                "text",
                label,
                x=frame.left - 8,
                y=y + 4,
                class_="tick end",
            )
        )
    return group(parts)


def x_axis(
    frame: Frame, ticks: Sequence[tuple[float, str]], title: str
) -> Markup:
    """Returns the lower edge, its labels and what it measures."""
    y = frame.y_end
    parts = [_across(frame, y, "axis")]
    parts += [
        tag("text", label, x=frame.x(value), y=y + 18, class_="tick middle")
        for value, label in ticks
    ]
    parts.append(
        tag(
            "text",
            title,
            x=(frame.left + frame.x_end) / 2,
            y=frame.height - 4,
            class_="axis-title middle",
        )
    )
    return group(parts)


def _across(frame: Frame, y: float, style: str) -> Markup:
    return tag("line", x1=frame.left, x2=frame.x_end, y1=y, y2=y, class_=style)


def _attribute(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.1f}"
    return escape(value)
