"""Learn the known users again for another version of the model.

A user's weights are good for one fixed part of the model only. Before a new
version is served, every known user's weights are learned again for it, from
the user's own newest events, which the store and the event log keep. Gateways
go on serving the old version meanwhile: its weights stay where they are, and
are there for a rollback.

Only users who are behind are learned, so this can be stopped, run again, and
run beside gateways that learn. `adaptower run --store` does the same between
blessing and push. Whoever is missed is learned when next seen: the first
answer is then that for a new user.
"""

import argparse
import pathlib

from pipeline.commands.arguments import days

HELP = "learn the known users for a new version"
EPILOG = """
examples:
  adaptower rebase                             the last run's model and store
  adaptower rebase runs/movielens-1m --store 'redis://:$PASSWORD@store'
  adaptower rebase /models/adaptower/1795254299 --store /var/lib/adaptower
                                               a SavedModel, not pushed yet

what became of whom is printed at the end:
  rebased    learned for the version
  current    learned by a gateway meanwhile
  no_events  nothing is kept to learn from
  gone       deleted or expired meanwhile
  refused    the inner loop gave weights that can't be stored; see the model
  busy       written again and again by others; learned when next seen
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "model",
        nargs="?",
        type=pathlib.Path,
        default=pathlib.Path("runs/latest"),
        metavar="RUN_OR_MODEL",
        help="a run, for the version it pushed last, or the folder of a "
        "SavedModel (default: %(default)s)",
    )
    parser.add_argument(
        "--store",
        metavar="FOLDER|URL",
        help="the gateways' store, a folder of this machine or the address "
        "of a Redis server; $NAME in it is read from the environment "
        "(default: the run's own)",
    )
    parser.add_argument(
        "--store-ttl-days",
        type=days,
        dest="store_ttl_seconds",
        metavar="D",
        help="as the gateways have it",
    )
    parser.add_argument(
        "--model-name",
        default="adaptower",
        metavar="NAME",
        help="the name that gateways serve it under (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.rebase import find_model, rebase_store
    from serving.store.config import StoreConfig
    from serving.store.tombstone import Retention

    found = find_model(args.model, args.model_name)
    retention = Retention(args.store_ttl_seconds)
    rebase_store(
        found.folder,
        args.model_name,
        StoreConfig(args.store or found.require_store(), retention=retention),
    )
    return 0
