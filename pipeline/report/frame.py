"""Where things go in a chart: the plotting area, its ticks, its labels."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

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


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Writes ticks with as few decimals as keep all of them exact."""
    decimals = next(
        places
        for places in range(13)
        if all(math.isclose(t, round(t, places)) for t in ticks)
    )
    return [f"{tick:.{decimals}f}" for tick in ticks]


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
