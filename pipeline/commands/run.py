"""Run the main job: data to a pushed model, served and measured.

Reads the dataset, trains the partitioned model and the `joint` baseline,
evaluates, validates and pushes them, starts the servers, and replays the cold
users' stream through the gateway. Stages with nothing new to do are taken
from the cache, so a run that was stopped goes on where it was.
"""

import argparse

from pipeline.commands.arguments import (
    add_dataset_arguments,
    add_hyper_parameters,
    days,
    positive,
)

HELP = "train, evaluate, push, serve and replay"
EPILOG = """
examples:
  adaptower run                                MovieLens-100K
  adaptower run movielens-1m --data-path ~/ml-1m
  adaptower run ./shop.yaml                    your own log
  adaptower run --train-steps 50 --replay-users 20
                                               a quick look: does it all work?
  adaptower run --tune                         search hyper-parameters first
  adaptower run --store redis://localhost      learn the known users for the
                                               new model before it is pushed
  adaptower run --set partition=user_bias --set vector_size=8
  adaptower run --beam-arg=--direct_num_workers=4 \\
      --beam-arg=--direct_running_mode=multi_processing

results:
  runs/<dataset>/summary.json, report.html, serving/, logs/
  runs/latest points at the last run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_dataset_arguments(parser)
    parser.add_argument(
        "--train-steps",
        type=positive,
        help="outer-loop steps of each training at most",
    )
    parser.add_argument(
        "--replay-users", type=positive, help="replay only so many cold users"
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="search hyper-parameters first, as `adaptower tune` does by "
        "default (30 trials, 256 bytes per user), or take what it has tried; "
        "with --no-cache also if trials came after the last such run",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="run every stage, even where nothing changed",
    )
    parser.add_argument(
        "--beam-arg",
        action="append",
        default=[],
        metavar="--FLAG=VALUE",
        help="an argument for Beam; may be given more than once",
    )
    parser.add_argument(
        "--store",
        metavar="FOLDER|URL",
        help="where the gateways that serve this model keep their users: "
        "learn all of them for the new model before it is pushed (see "
        "`adaptower rebase`); $NAME in it is read from the environment when "
        "it is used, so that no password is written down",
    )
    parser.add_argument(
        "--store-ttl-days",
        type=days,
        dest="store_ttl_seconds",
        metavar="D",
        help="as the gateways have it",
    )
    add_hyper_parameters(
        parser, "a hyper-parameter of the trainer (see trainer/config.py)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of trainings and search (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.main_job import run_main_job
    from pipeline.run_config import RunConfig

    return run_main_job(
        RunConfig(
            dataset=args.dataset,
            data_path=args.data_path,
            runs=args.runs,
            train_steps=args.train_steps,
            replay_users=args.replay_users,
            tune=args.tune,
            use_cache=not args.no_cache,
            beam_args=tuple(args.beam_arg),
            store=args.store,
            store_ttl_seconds=args.store_ttl_seconds,
            seed=args.seed,
            hyper_parameters=dict(args.set),
        )
    )
