"""Quality on the protocol: trains every regime, scores cold users, reports.

    python -m benchmarks.quality --datasets movielens-1m --regimes joint meta
    python -m benchmarks.quality --datasets movielens-1m --only report
    python -m benchmarks.quality --protocol metarec

Three stages: tune (each training alike, on meta_valid), run (each training,
each seed, scored on meta_test) and report (figures with intervals, tables,
benchmarks/results/quality.json, plots). Trials and results are kept in the
work directory: what was killed goes on, and several processes may make
different trainings at once.

`--protocol metarec` and `melu` judge ours as published tables of MovieLens-1M
were made, faults included, and print those beside.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import logging
import pathlib

from benchmarks.quality.artifacts import find_or_make
from benchmarks.quality.bench import Bench
from benchmarks.quality.options import Options
from benchmarks.quality.published_data import PROTOCOLS
from benchmarks.quality.published_report import (
    PUBLISHED_DATASET,
    write_published,
)
from benchmarks.quality.trainings import TRAININGS
from pipeline.catalog import load_dataset_spec
from pipeline.fetch import DATA_VARIABLE
from serving.contract.protocol import META_TEST, META_VALID

ROOT = pathlib.Path(__file__).parents[2]
PRESETS = "presets"
DATASETS = ("movielens-1m", "movielens-100k", "complete-journey")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument(
        "--regimes",
        nargs="+",
        choices=[*TRAININGS, PRESETS],
        default=[*TRAININGS, PRESETS],
        help="trainings; `meta` is offline and online, `presets` ours with "
        "each partition preset (default: all)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--trials",
        type=int,
        default=4,
        help="of tuning, each training alike; 1 takes what the dataset comes "
        "with (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="[REGIMES.]NAME=VALUE",
        help="hyper-parameters of all trainings, or of one: outer_lr=0.001, "
        "maml_all.first_order=true",
    )
    parser.add_argument(
        "--work-dir", type=pathlib.Path, default=ROOT / "runs" / "quality"
    )
    parser.add_argument(
        "--run",
        type=pathlib.Path,
        metavar="DIR",
        help="run folder with the data stages' artifacts, for one dataset "
        "(default: runs/DATASET; they are made if absent)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["tune", "run", "report"],
        default=["tune", "run", "report"],
    )
    parser.add_argument(
        "--judge",
        choices=[META_VALID, META_TEST],
        default=META_TEST,
        help="whose users are scored; while something is being tried, only "
        "meta_valid, with a work directory and an output of its own",
    )
    parser.add_argument(
        "--protocol",
        choices=["stream", *PROTOCOLS],
        default="stream",
        help="ours, or one of published tables (default: %(default)s)",
    )
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=ROOT / "benchmarks" / "results" / "quality.json",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault(DATA_VARIABLE, str(ROOT.parent / "shared" / "data"))
    overrides = dict(text.split("=", 1) for text in arguments.set)
    if arguments.protocol != "stream":
        run_dir = arguments.run or ROOT / "runs" / PUBLISHED_DATASET
        write_published(
            find_or_make(PUBLISHED_DATASET, run_dir),
            PROTOCOLS[arguments.protocol],
            overrides,
            arguments.seeds,
            arguments.draws,
            arguments.output.with_name(f"quality-{arguments.protocol}.json"),
        )
        return
    options = Options(
        trainings=tuple(r for r in arguments.regimes if r != PRESETS),
        presets=PRESETS in arguments.regimes,
        seeds=tuple(arguments.seeds),
        trials=arguments.trials,
        draws=arguments.draws,
        work_dir=arguments.work_dir,
        output=arguments.output,
        judged_split=arguments.judge,
    )
    for name in arguments.datasets:
        spec = load_dataset_spec(name)
        run_dir = arguments.run or ROOT / "runs" / spec.name
        bench = Bench.of_artifacts(
            find_or_make(name, run_dir), spec, overrides, options
        )
        for stage in arguments.only:
            getattr(bench, stage)()


if __name__ == "__main__":
    main()
