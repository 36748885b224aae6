"""Replay a run's cold users through the gateway, and measure.

Sends the stream of the cold users (Rank each window, then submit it as
feedback) in the regimes joint, offline and online, and writes summary.json
and report.html anew. Starts the run's servers unless --gateway names one
that runs. Users get fresh ids, so a replay never sees what an earlier one
taught.
"""

import argparse
import pathlib

from pipeline.commands.arguments import positive

HELP = "replay the cold users through the gateway"
EPILOG = """
examples:
  adaptower replay                             the last run, all cold users
  adaptower replay --users 20                  a quick look
  adaptower replay --clients 64                under load, as in service
  adaptower replay --gateway localhost:8600    against `adaptower serve`
"""


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
        "--users", type=positive, help="only the first so many cold users"
    )
    parser.add_argument(
        "--clients",
        type=positive,
        default=1,
        help="how many call at once, each for users of its own: learning from "
        "all users comes to other figures then, a little (default: "
        "%(default)s, exact)",
    )
    parser.add_argument(
        "--gateway",
        metavar="HOST:PORT",
        help="a gateway that runs already; started here by default",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.main_job import replay_run
    from pipeline.run_config import open_run

    return replay_run(
        open_run(args.run),
        max_users=args.users,
        gateway=args.gateway,
        clients=args.clients,
    )
