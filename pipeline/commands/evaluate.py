"""Print the figures of a run again.

They are those measured on the served system by the last replay. `paper` is
what arXiv 1912.04108 reports on its own data; `skew` is by how much the AUC
differs from that of the offline evaluation, by which the model was blessed: at
most 1e-3.
"""

import argparse
import json
import pathlib
import typing
from collections.abc import Mapping

from serving.contract.regimes import REGIMES

if typing.TYPE_CHECKING:
    from rich.console import Console

HELP = "print the figures of a run"
EPILOG = """
examples:
  adaptower evaluate                           the last run
  adaptower evaluate --run runs/movielens-1m
  adaptower evaluate --json | jq .lift.online
"""

_EVALUATOR = ("ColdStartEvaluator", "evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--run",
        type=pathlib.Path,
        default=pathlib.Path("runs/latest"),
        metavar="FOLDER",
        help="the run (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print summary.json as it is"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.errors import ConfigError
    from pipeline.run_config import open_run

    layout = open_run(args.run)
    if not layout.summary.is_file():
        raise ConfigError(
            f"{layout.summary} does not exist: the run in {layout.root} was "
            "not replayed to its end. `adaptower replay --run "
            f"{layout.root}` does it."
        )
    text = layout.summary.read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
        return 0
    from rich.console import Console

    console = Console()
    summary = json.loads(text)
    print_figures(summary, console)
    # Paths stay whole, however narrow the screen is.
    console.print(f"\nreport      {layout.report}", soft_wrap=True)
    console.print(f"evaluation  {layout.artifact(*_EVALUATOR)}", soft_wrap=True)
    return 0


def print_figures(
    summary: Mapping[str, typing.Any], console: "Console"
) -> None:
    """Prints a table of a summary's figures.

    Args:
        summary: What `summary.json` holds.
        console: Where to print.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("served")
    for heading in ("AUC", "wGAUC", "lift, points", "95%", "paper", "skew"):
        table.add_column(heading, justify="right")
    for regime in REGIMES:
        lift = summary["lift"].get(regime, {})
        table.add_row(
            regime,
            _number(summary["auc"][regime], ".4f"),
            _number(summary["wgauc"][regime], ".4f"),
            _number(lift.get("value"), "+.2f"),
            f"{_number(lift['low'], '+.2f')} to {_number(lift['high'], '+.2f')}"
            if lift
            else "",
            _number(summary["paper_lift"].get(regime), "+.2f"),
            _number(summary["skew"].get(regime), ".5f"),
        )
    console.print(
        f"[bold]{summary['dataset']}[/], revision {summary['revision']}, "
        f"{summary['created']}"
    )
    console.print(table)
    for name in ("rank_ms", "feedback_ms"):
        cost = summary[name]
        console.print(
            f"{name:<12} p50 {_number(cost['p50'], '.1f')}  "
            f"p99 {_number(cost['p99'], '.1f')}",
            highlight=False,
        )


def _number(value: float | None, layout: str) -> str:
    """A figure without a value is null in JSON."""
    return "" if value is None else format(value, layout)
