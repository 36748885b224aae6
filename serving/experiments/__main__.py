"""Reports on experiments, and keeps their logs small.

example: python -m serving.experiments report experiments.yaml
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.errors import ServingError
from serving.experiments.config import load_experiments
from serving.experiments.joining import join, read_lines
from serving.experiments.purging import purge
from serving.experiments.report import make_report

_HORIZON_HOURS = 24.0
_SECONDS_PER_HOUR = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    flags = _parser().parse_args(arguments)
    try:
        if flags.command == "report":
            _report(flags)
        else:
            _purge(flags)
    except ServingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _report(flags: argparse.Namespace) -> None:
    config = load_experiments(flags.file)
    joined = join(
        read_lines(flags.log or config.log),
        flags.horizon_hours * _SECONDS_PER_HOUR,
    )
    reports = [
        make_report(
            experiment,
            joined,
            flags.unanswered == "negative",
            flags.draws,
            flags.seed,
        )
        for experiment in config.experiments
    ]
    if flags.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    else:
        print("\n\n".join(report.as_text() for report in reports))


def _purge(flags: argparse.Namespace) -> None:
    log = flags.log or load_experiments(flags.file).log
    files, lines = purge(log, flags.keep_days)
    print(f"Removed {files} files and {lines} lines of forgotten users")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser(
        "report", help="what each arm achieved, its lift, and the intervals"
    )
    purging = commands.add_parser(
        "purge", help="remove old files, and users who were deleted"
    )
    for command in (report, purging):
        command.add_argument("file", type=Path, help="the experiments file")
        command.add_argument(
            "--log",
            type=Path,
            metavar="FOLDER",
            help="exposure logs, gathered from all gateways; default: the "
            "folder that the file names",
        )
    report.add_argument(
        "--horizon-hours",
        type=float,
        default=_HORIZON_HOURS,
        metavar="H",
        help="how long after an exposure feedback counts for it; "
        "default: %(default)s",
    )
    report.add_argument(
        "--unanswered",
        choices=("skip", "negative"),
        default="skip",
        help="what an item without feedback counts as, in an exposure that "
        "got some; default: %(default)s",
    )
    report.add_argument(
        "--draws",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap draws; default: %(default)s",
    )
    report.add_argument("--seed", type=int, default=0, metavar="N")
    report.add_argument("--json", action="store_true", help="print JSON")
    purging.add_argument(
        "--keep-days",
        type=float,
        default=90.0,
        metavar="D",
        help="remove files not written to for so long, but none written to "
        "within a day; default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
