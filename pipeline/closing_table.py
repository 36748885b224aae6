"""What `make run` prints at its end."""

import math
from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.summary import LIFTS, PAPER_LIFT, Latency, Summary
from serving.contract.regimes import REGIMES

_REGIME_NOTES = {
    "joint": "nothing",
    "offline": "10 events, once",
    "online": "every window",
}


def print_closing_table(
    summary: Summary,
    *,
    where: Mapping[str, str],
    console: Console | None = None,
) -> None:
    """Prints the figures of a run and where to look next.

    Args:
        summary: The figures.
        where: What can be looked at (a file, a command), by what it is.
        console: Where to print; standard output by default.
    """
    counts = summary.counts
    title = Text.assemble(
        ("Cold users, served: ", "bold"),
        f"{summary.dataset} · {counts['users']:,} users · "
        f"{counts['windows']:,} windows · {counts['rows']:,} rows",
    )
    parts: list[RenderableType] = [
        Text(),
        title,
        _regimes(summary),
        _lifts(summary),
    ]
    parts += [_costs(summary), _stages(summary), *_notes(summary)]
    console = console or Console()
    console.print(Group(*parts, Text()))
    width = max(map(len, where), default=0)
    for name, place in where.items():
        line = Text.assemble((f"{name:<{width}}", "bold"), f"  {place}")
        # In one piece, however narrow the screen is: to be copied.
        console.print(line, soft_wrap=True)


def _regimes(summary: Summary) -> Table:
    table = _table("regime", "learns from", "AUC", "95%", "wGAUC", "NDCG@10")
    for regime in REGIMES:
        auc = summary.auc[regime]
        table.add_row(
            f"[bold]{regime}[/]",
            f"[dim]{_REGIME_NOTES[regime]}[/]",
            f"[bold]{_figure(auc.value)}[/]",
            auc.between(".4f"),
            _figure(summary.wgauc[regime].value),
            _figure(summary.ndcg[regime].value),
        )
    return table


def _lifts(summary: Summary) -> Table:
    table = _table("points", "over", "AUC", "95%", "paper", "wGAUC", "95%")
    for name, (_, minus) in LIFTS.items():
        auc, inside = summary.lift[name], summary.wgauc_lift[name]
        style = "green" if auc.low > 0 else "yellow"
        table.add_row(
            f"[bold]{name}[/]",
            f"[dim]{minus}[/]",
            f"[bold {style}]{_points(auc.value)}[/]",
            auc.between("+.2f"),
            _points(PAPER_LIFT[name]),
            _points(inside.value),
            inside.between("+.2f"),
        )
    return table


def _costs(summary: Summary) -> Table:
    table = _table("cost", "", "p50", "p99")
    for name, latency, note in (
        ("Rank", summary.rank_ms, f"{summary.counts['rank_calls']:,} calls"),
        (
            "SubmitFeedback",
            summary.feedback_ms,
            f"{summary.counts['feedback_calls']:,} calls",
        ),
    ):
        table.add_row(f"[bold]{name}[/]", f"[dim]{note}[/]", *_cells(latency))
    sizes = summary.bytes_per_user
    table.add_row(
        "[bold]bytes per user[/]",
        "[dim]adaptive weights / whole record[/]",
        *(f"{sizes[part]:,.0f} B" for part in ("weights", "record")),
    )
    return table


def _stages(summary: Summary) -> Table:
    table = _table("stage", "", "seconds")
    seconds = summary.stage_seconds
    longest = max(seconds.values(), default=0.0)
    for stage, took in seconds.items():
        bar = "█" * max(1, round(24 * took / longest)) if longest else ""
        table.add_row(stage, f"[dim]{bar}[/]", f"{took:,.1f}")
    table.add_row("[bold]all[/]", "", f"[bold]{sum(seconds.values()):,.1f}[/]")
    return table


def _notes(summary: Summary) -> list[Text]:
    notes = []
    if summary.skew:
        largest = max(summary.skew.auc.values())
        notes.append(
            Text(
                f"Served and evaluated offline differ by {largest:.5f} AUC "
                "at most.",
                style="dim",
            )
        )
    degraded = summary.counts["degraded"]
    if degraded:
        notes.append(
            Text(
                f"{degraded:,} answers were degraded: given without the "
                "user's own weights, because the store or the model server "
                "did not answer in time. The figures are lower for it; run "
                "`adaptower replay` when the machine is less busy.",
                style="yellow",
            )
        )
    return notes


def _table(*columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
    )
    for index, column in enumerate(columns):
        table.add_column(
            column, justify="left" if index < 2 else "right", no_wrap=True
        )
    return table


def _cells(latency: Latency) -> tuple[str, str]:
    return f"{latency.p50:.1f} ms", f"{latency.p99:.1f} ms"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"
