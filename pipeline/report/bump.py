"""The bump chart: how ranks move from step to step."""

import dataclasses
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.charts import Label

_TITLE_CHARACTERS = 30


@dataclasses.dataclass(frozen=True)
class Runner:
    """One line of a bump chart.

    Attributes:
        name: Written at its end.
        is_liked: Drawn to stand out.
        ranks: Rank after each step, from 1.
    """

    name: str
    is_liked: bool
    ranks: Sequence[int]


def bump_chart(
    runners: Sequence[Runner],
    steps: Sequence[str],
    *,
    label: Label,
    x_title: str,
) -> Markup:
    """Draws how ranks move; the first rank is on top.

    Args:
        runners: What is ranked.
        steps: What each step is called.
        label: What the chart is called.
        x_title: What the steps are.

    Returns:
        The drawing.
    """
    count = len(runners)
    frame = svg.Frame(
        width=780,
        height=34 * count + 62,
        left=34,
        right=278,
        top=20,
        bottom=46,
        x_range=(0.0, max(len(steps) - 1, 1)),
        y_range=(count + 0.45, 1),
    )
    parts = [svg.x_axis(frame, list(enumerate(steps)), x_title)]
    parts += [
        svg.tag("text", str(rank), x=16, y=frame.y(rank) + 4, class_="tick end")
        for rank in range(1, count + 1)
    ]
    # Liked ones last, so that they lie on top.
    for runner in sorted(runners, key=lambda runner: runner.is_liked):
        parts.append(_runner(frame, runner))
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def _runner(frame: svg.Frame, runner: Runner) -> Markup:
    style = "liked" if runner.is_liked else "other"
    places = [
        (frame.x(step), frame.y(rank)) for step, rank in enumerate(runner.ranks)
    ]
    end_x, end_y = places[-1]
    shape = "circle" if runner.is_liked else "square"
    sign = "♥" if runner.is_liked else "·"
    name = textwrap.shorten(runner.name, _TITLE_CHARACTERS, placeholder="…")
    return svg.group(
        [
            svg.tag("title", f"{runner.name}: ranks {_arrows(runner.ranks)}"),
            svg.tag("path", d=svg.path(places), class_=f"bump {style}"),
            *(
                svg.marker(shape, x, y, class_=f"mark {style}")
                for x, y in places
            ),
            svg.tag(
                "text",
                f"{sign} {name}",
                x=end_x + 14,
                y=end_y + 4,
                class_=f"name {style}",
            ),
        ]
    )


def _arrows(ranks: Sequence[int]) -> str:
    return " → ".join(str(rank) for rank in ranks)
