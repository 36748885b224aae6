"""Search hyper-parameters under a budget of bytes per user.

Trains one model after the other (with --workers, some at a time) on
meta_train, judges each on the first events of meta_valid users (the mean of
AUC and wGAUC after k = 0, 1, 3, 5, 10 and 20 events), and keeps a table of all
of them. A trial whose adaptive weights would take more bytes per user than
--budget-bytes is refused before it is trained. The same command goes on with a
search that was stopped: no trial that had ended is run again, and --trials may
be raised later. Another budget, oracle, seed, --set or --train-steps is another
search, which starts anew.

Oracles: `bayesian` learns from earlier trials where to look; `hyperband`
starts many short trainings and goes on with the best of them, for when a
training takes long; `random` is the yardstick of both.
"""

import argparse
import pathlib

from pipeline.commands.arguments import (
    add_dataset_arguments,
    add_hyper_parameters,
    positive,
)

HELP = "search hyper-parameters under a byte budget"
EPILOG = """
examples:
  adaptower tune movielens-1m                  30 trials, 256 bytes per user
  adaptower tune movielens-1m --trials 60      go on to 60
  adaptower tune movielens-1m --budget-bytes 64 --workers 4
  adaptower tune ./shop.yaml --oracle hyperband --trials 80
  adaptower tune --set partition=user_bias     what is given is not searched
  adaptower tune movielens-1m --out docs/tuning
                                               the table, to be committed

results:
  runs/<dataset>/tuning/<dataset>.md           all trials, best first, and the
                                               lines to put under `training:`
                                               of the dataset's spec
  runs/<dataset>/tuning/<dataset>.json         the same with all figures
  runs/<dataset>/tuning/search-*/              Keras Tuner's own files

`adaptower run --tune` takes the best trial from there, and first goes on to 30,
if its --runs, --set, --seed and --train-steps are the same and neither --oracle
nor --budget-bytes was given here: it knows neither, and searches with their
defaults. What another search found goes under `training:` of the spec.
Workers on other machines: docs/tuning.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_dataset_arguments(parser)
    parser.add_argument(
        "--trials",
        type=positive,
        default=30,
        help="trials in all, earlier ones included (default: %(default)s)",
    )
    parser.add_argument(
        "--budget-bytes",
        type=positive,
        default=256,
        metavar="BYTES",
        help="of adaptive weights per user (default: %(default)s)",
    )
    parser.add_argument(
        "--oracle",
        choices=("bayesian", "hyperband", "random"),
        default="bayesian",
        help="who proposes trials (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        help="processes that run trials (default: %(default)s)",
    )
    parser.add_argument(
        "--train-steps",
        type=positive,
        help="outer-loop steps of a trial at most",
    )
    add_hyper_parameters(
        parser, "a hyper-parameter that is given and not searched"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of oracle and trainings (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FOLDER",
        help="where the table goes (default: runs/<dataset>/tuning)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.run_config import RunConfig
    from pipeline.tuning import tune
    from trainer.tuning.options import TuningOptions

    return tune(
        RunConfig(
            dataset=args.dataset,
            data_path=args.data_path,
            runs=args.runs,
            train_steps=args.train_steps,
            seed=args.seed,
            hyper_parameters=dict(args.set),
        ),
        TuningOptions(
            max_trials=args.trials,
            budget_bytes=args.budget_bytes,
            oracle=args.oracle,
            seed=args.seed,
        ),
        workers=args.workers,
        out=args.out,
    )
