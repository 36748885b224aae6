"""Small pieces that charts are drawn from: scales, ticks, safe SVG text.

Charts are inline SVG without scripts, fonts or colours of their own: colours
are CSS classes, so one drawing serves light and dark pages, and everything
that comes from data goes through `markupsafe`, which escapes it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Frame:
    """The plotting area of a chart, and how data maps onto it.

    Attributes:
        width: Of the whole drawing, in SVG units (CSS pixels at full size).
        height: Of the whole drawing.
        left: Room left of the plotting area, for tick labels.
        right: Room right of it, for the names of lines.
        top: Room above it.
        bottom: Room below it, for tick labels and the axis title.
        x_range: Data range across.
        y_range: Data range upwards.
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_range: Range
    y_range: Range

    @property
    def x_end(self) -> float:
        """Right edge of the plotting area."""
        return self.width - self.right

    @property
    def y_end(self) -> float:
        """Lower edge of the plotting area."""
        return self.height - self.bottom

    def x(self, value: float) -> float:
        """Maps a data value to a horizontal place."""
        low, high = self.x_range
        share = (value - low) / ((high - low) or 1.0)
        return self.left + share * (self.x_end - self.left)

    def y(self, value: float) -> float:
        """Maps a data value to a vertical place; up is more."""
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1.0)
        return self.y_end - share * (self.y_end - self.top)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns about `count` round values that lie within a range.

    Args:
        low: Lower end.
        high: Upper end; must not be below `low`.
        count: How many to aim for.

    Returns:
        Multiples of 1, 2, 2.5 or 5 times a power of ten, ascending.
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def padded(values: Iterable[float], share: float = 0.08) -> Range:
    """Returns the range of finite values with some air around it."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return (0.0, 1.0)
    low, high = min(finite), max(finite)
    air = (high - low) * share or abs(high) * share or 1.0
    return (low - air, high + air)


def spread(
    wanted: Sequence[float], gap: float, low: float, high: float
) -> list[float]:
    """Moves labels apart until none overlaps another.

    Args:
        wanted: Where each label would like to be.
        gap: Smallest distance between two labels.
        low: No label goes below this.
        high: No label goes above this, unless there is no room.

    Returns:
        Where each label goes, in the order of `wanted`.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    previous = low - gap
    for index in order:
        placed[index] = previous = max(wanted[index], previous + gap)
    limit = high
    for index in reversed(order):
        placed[index] = limit = min(placed[index], limit)
        limit -= gap
    return placed


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


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Writes ticks with as few decimals as keep all of them exact."""
    decimals = next(
        places
        for places in range(13)
        if all(math.isclose(t, round(t, places)) for t in ticks)
    )
    return [f"{tick:.{decimals}f}" for tick in ticks]


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
