"""The section on what each stage gains."""

from pipeline.report.content import DataTable, Panel, ReportInputs, Section
from pipeline.report.svg import Label
from pipeline.report.whiskers import Whisker, whisker_chart
from pipeline.summary import LIFTS, PAPER_LIFT
from serving.contract import protocol
from serving.contract.intervals import Interval
from serving.contract.regimes import OFFLINE, ONLINE


def lift_section(inputs: ReportInputs) -> Section:
    """How much each stage gains, beside what the paper reports."""
    summary = inputs.summary
    kinds = (("AUC", summary.lift), ("wGAUC", summary.wgauc_lift))
    rows = [
        Whisker(
            f"{name}, {kind}",
            name,
            lifts[name],
            PAPER_LIFT[name] if kind == "AUC" else None,
        )
        for name in LIFTS
        for kind, lifts in kinds
    ]
    offline, online = summary.lift[OFFLINE], summary.lift[ONLINE]
    reading = (
        f"Learning from a user's first {protocol.FIRST_SUPPORT_EVENTS} "
        f"events {_gains(offline)} over scoring from features alone; "
        f"learning on from every window {_gains(online)} more. A difference "
        "whose line crosses zero could be chance.",
        "The paper's figures come from its own production data and say what "
        "is possible there; here they are a yardstick, not a rival.",
    )
    label = Label(
        "lift",
        "Lift of each stage",
        "Lift in points of AUC and wGAUC with 95% intervals, beside the "
        "paper's AUC lifts.",
    )
    return Section(
        anchor="lift",
        heading="What each stage gains",
        reading=reading,
        panels=[Panel("", whisker_chart(rows, label=label, x_title="points"))],
        table=DataTable(
            ("lift", "points", "95%", "paper"),
            [
                (
                    row.name,
                    f"{row.figure.value:+.2f}",
                    row.figure.between("+.2f"),
                    "" if row.reference is None else f"{row.reference:+.2f}",
                )
                for row in rows
            ],
        ),
    )


def _gains(lift: Interval) -> str:
    verb = "gains" if lift.value >= 0 else "loses"
    return f"{verb} {abs(lift.value):.2f} points of AUC"
