"""What the benchmark prints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 140
_POINTS = 100.0

Document = Mapping[str, Any]


def show(name: str, document: Document, console: Console) -> None:
    """Prints the tables of one dataset."""
    # A file or a pipe has no width of its own.
    console.width = max(console.width, _WIDTH)
    stream = document["stream"]
    console.print(_regimes(name, stream))
    console.print(_lifts("Paired lifts in points", stream["lifts"]))
    for figure, interval in stream.get("gap_closed", {}).items():
        console.print(f"gap closed, {figure}: {_interval(interval, 3)}")
    console.print(_few_shot(document["few_shot"]))
    for figure, title in (("auc", "AUC"), ("wgauc", "wGAUC")):
        console.print(_few_shot_lifts(title, figure, document["few_shot"]))
    console.print(_costs(document["costs"]))
    for part in ("forgetting", "steps_to_quality"):
        if part in document:
            console.print(part.replace("_", " "), document[part])


def _regimes(name: str, stream: Document) -> Table:
    table = Table(
        title=f"{name}: {stream['users']:,} cold users, "
        f"{stream['rows']:,} judged rows"
    )
    table.add_column("regime")
    for heading in ("AUC", "wGAUC", "NDCG@10", "log loss"):
        table.add_column(heading, justify="right")
    for regime, figures in stream["regimes"].items():
        table.add_row(regime, *(_interval(f, 4) for f in figures.values()))
    return table


def _lifts(title: str, lifts: Document) -> Table:
    table = Table(title=title)
    table.add_column("regime - other")
    for heading in ("AUC", "wGAUC", "NDCG@10"):
        table.add_column(heading, justify="right")
    for lift, figures in lifts.items():
        values = [figures[f] for f in ("auc", "wgauc", "ndcg_at_10")]
        table.add_row(
            lift.replace("_minus_", " - "),
            *(_interval(value, 2, _POINTS, sign="+") for value in values),
        )
    return table


def _few_shot(few_shot: Document) -> Table:
    table = Table(title="AUC / wGAUC after k events, the same query sets")
    table.add_column("regime")
    by_k = few_shot["by_k"]
    for size in by_k:
        table.add_column(f"k = {size}", justify="right")
    for regime in next(iter(by_k.values()), {}):
        table.add_row(
            regime,
            *(
                f"{figures[regime]['auc']['value']:.4f}/"
                f"{figures[regime]['wgauc']['value']:.4f}"
                for figures in by_k.values()
            ),
        )
    return table


def _few_shot_lifts(title: str, figure: str, few_shot: Document) -> Table:
    table = Table(title=f"Paired lifts in {title} points after k events")
    table.add_column("regime - other")
    by_k = few_shot["lifts"]
    for size in by_k:
        table.add_column(f"k = {size}", justify="right")
    for lift in next(iter(by_k.values()), {}):
        table.add_row(
            lift.replace("_minus_", " - "),
            *(
                _interval(lifts[lift][figure], 1, _POINTS, sign="+")
                for lifts in by_k.values()
            ),
        )
    return table


def _costs(costs: Document) -> Table:
    table = Table(title="Costs, means over seeds")
    names = ("bytes_per_user", "adapt_seconds", "seconds", "best_step")
    table.add_column("training")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for training, of in costs.items():
        table.add_row(
            training,
            *(f"{of[name]:,.5g}" if name in of else "" for name in names),
        )
    return table


def _interval(
    interval: Document, digits: int, factor: float = 1.0, sign: str = ""
) -> str:
    if interval["value"] is None:
        return ""
    value, low, high = (
        f"{factor * interval[name]:{sign}.{digits}f}"
        if interval[name] is not None
        else "?"
        for name in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})"
