"""The section that follows one user while the model learns from it."""

import dataclasses

from components.cold_users import RawValue
from pipeline.example_user import UserTrace
from pipeline.report.bump import Runner, bump_chart
from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.report.svg import Label
from serving.contract.labels import liked

LIKED = "♥"
OTHER = "·"


def example_section(inputs: ReportInputs) -> Section | None:
    """How one user's list moves; None if there is no user to show."""
    trace = inputs.trace
    if trace is None:
        return None
    names = [inputs.item_name(item) for item in trace.candidates]
    runners = [
        Runner(name, bool(liked(label)), ranks.tolist())
        for name, label, ranks in zip(
            names, trace.labels, trace.ranks.T, strict=True
        )
    ]
    steps = [str(count) for count in trace.events_seen]
    label = Label(
        "example",
        f"Ranks of {len(names)} items while user {trace.user.user_id} is "
        "being learned",
        "Each line is an item; the first rank is on top. Liked items are "
        "bold lines with circles.",
    )
    broad, narrow = (
        bump_chart(
            runners,
            steps,
            label=dataclasses.replace(label, name=f"example-{name}"),
            x_title="events learned from",
            is_narrow=name == "narrow",
        )
        for name in ("broad", "narrow")
    )
    first_events = [
        (LIKED if liked(given) else OTHER, inputs.item_name(item))
        for item, given in zip(
            trace.first_items, trace.first_labels, strict=True
        )
    ]
    return Section(
        anchor="example",
        heading=f"One user: {trace.user.user_id}",
        reading=(
            "The typical user of this stream: of those who stayed longest, "
            f"the one of median gain. {_known(trace)} The items below are "
            "from the end of this user's stream, so the model never learned "
            f"from them; what the user thought of them ({LIKED} liked) is "
            "known only to us.",
            _movement(trace),
        ),
        panels=[Panel("", broad, narrow_svg=narrow)],
        lists=[("The first events", first_events)],
        table=DataTable(
            ("item", "liked", *(f"after {step}" for step in steps), "moved"),
            [
                (
                    runner.name,
                    LIKED if runner.is_liked else OTHER,
                    *(str(rank) for rank in runner.ranks),
                    _arrow(runner.ranks[0] - runner.ranks[-1]),
                )
                for runner in sorted(runners, key=lambda r: r.ranks[-1])
            ],
        ),
    )


def _known(trace: UserTrace) -> str:
    features = ", ".join(
        f"{name} {_plain(value)}" for name, value in trace.user.features.items()
    )
    return (
        f"Known at arrival: {features}."
        if features
        else "Nothing but the id is known at arrival."
    )


def _plain(value: RawValue) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:g}"


def _movement(trace: UserTrace) -> str:
    is_liked = liked(trace.labels)
    before, after = (trace.ranks[step][is_liked].mean() for step in (0, -1))
    if abs(before - after) < 0.05:
        verdict = "did not move on average"
    else:
        direction = "up" if after < before else "down"
        verdict = f"moved {direction} from {before:.1f} to {after:.1f}"
    return (
        f"Over {trace.events_seen[-1]} events the mean rank of the "
        f"{int(is_liked.sum())} liked items {verdict}."
    )


def _arrow(places: int) -> str:
    if not places:
        return "="
    return f"↑ {places}" if places > 0 else f"↓ {-places}"
