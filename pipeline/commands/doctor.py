"""Check whether this machine is ready, and say how to mend what is not.

Looks at Python, installed versions against the lock file, the environment,
bytecode, compiler, memory, disk, ports, the model server and the datasets in
the cache. Exit code 1 if something would stop a run.
"""

import argparse
import dataclasses
import json
import pathlib
import typing

if typing.TYPE_CHECKING:
    from pipeline.doctor.check import Check

HELP = "check this machine, say how to mend it"
EPILOG = """
examples:
  adaptower doctor
  adaptower doctor --json | jq '.[] | select(.status != "ok")'
  adaptower doctor && adaptower run
"""

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--json", action="store_true", help="print a list of checks as JSON"
    )
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        default=pathlib.Path("runs"),
        metavar="FOLDER",
        help="where runs would go (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.doctor import check

    checks = _examine(args.runs)
    if args.json:
        print(json.dumps([dataclasses.asdict(c) for c in checks], indent=2))
    else:
        _print(checks)
    return int(any(c.status == check.ERROR for c in checks))


def _examine(runs: pathlib.Path) -> list["Check"]:
    from pipeline.commands.serve import DEFAULT_PORTS
    from pipeline.doctor import machine, packages

    return [
        packages.check_python(),
        *packages.check_installation(),
        packages.check_keras(),
        packages.check_bytecode(),
        *machine.check_machine(runs, DEFAULT_PORTS),
        _check_datasets(),
    ]


def _check_datasets() -> "Check":
    from pipeline.catalog import list_datasets, load_dataset_spec
    from pipeline.doctor.machine import check_datasets
    from pipeline.fetch import is_cached

    names = list_datasets()
    cached = [name for name in names if is_cached(load_dataset_spec(name))]
    return check_datasets(names, cached)


def _print(checks: list["Check"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for check in checks:
        found = Text(check.found)
        if check.mend:
            found.append(f"\n→ {check.mend}", style="dim")
        status = Text(check.status, style=_STYLES[check.status])
        table.add_row(status, check.name, found)
    console = Console()
    console.print(table)
    counts = [sum(c.status == s for c in checks) for s in _STYLES]
    console.print(
        "\n[bold]{} ok, {} warning(s), {} error(s)[/]".format(*counts)
    )
