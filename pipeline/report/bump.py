"""The bump chart: how ranks move from step to step."""

import dataclasses
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report import svg
from pipeline.report.frame import Frame
from pipeline.report.svg import Label

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
    is_narrow: bool = False,
) -> Markup:
    """Draws how ranks move; the first rank is on top.

    Args:
        runners: What is ranked.
        steps: What each step is called.
        label: What the chart is called.
        x_title: What the steps are.
        is_narrow: For a phone: names stand above the ends of their lines,
            not beside them.

    Returns:
        The drawing.
    """
    count = len(runners)
    frame = Frame(
        width=420 if is_narrow else 780,
        height=(46 if is_narrow else 34) * count + 66,
        left=34,
        right=14 if is_narrow else 278,
        top=24,
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
        parts.append(_line(frame, runner))
    parts += [_name(frame, runner, is_narrow) for runner in runners]
    return svg.drawing(frame, parts, **dataclasses.asdict(label))


def _line(frame: Frame, runner: Runner) -> Markup:
    style = "liked" if runner.is_liked else "other"
    places = [
        (frame.x(step), frame.y(rank)) for step, rank in enumerate(runner.ranks)
    ]
    shape = "circle" if runner.is_liked else "square"
    return svg.group(
        [
            svg.tag("title", f"{runner.name}: ranks {_arrows(runner.ranks)}"),
            svg.tag("path", d=svg.path(places), class_=f"bump {style}"),
            *(
                svg.marker(shape, x, y, class_=f"mark {style}")
                for x, y in places
            ),
        ]
    )


def _name(frame: Frame, runner: Runner, is_above: bool) -> Markup:
    sign = "♥" if runner.is_liked else "·"
    name = textwrap.shorten(runner.name, _TITLE_CHARACTERS, placeholder="…")
    x, y = frame.x_end, frame.y(runner.ranks[-1])
    style = f"name {'liked' if runner.is_liked else 'other'}"
    if is_above:
        x, y, style = x + 4, y - 10, f"{style} end halo"
    else:
        x, y = x + 14, y + 4
    return svg.tag("text", f"{sign} {name}", x=x, y=y, class_=style)


def _arrows(ranks: Sequence[int]) -> str:
    return " → ".join(str(rank) for rank in ranks)
