"""Runs the measurements of the serving side."""

import argparse
import contextlib
import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.serving.awake import kept_awake
from benchmarks.serving.figures import Figure, show, write
from benchmarks.serving.online import measure_online
from benchmarks.serving.rank import measure_rank
from benchmarks.serving.replay import measure_replay
from benchmarks.serving.rollover import ROLLOVERS, measure_rollover
from benchmarks.serving.setting import Setting, running, versions_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
MEASUREMENTS: dict[str, Callable[[Setting, float], Iterator[Figure]]] = {
    "rank": measure_rank,
    "online": measure_online,
    "rollover": measure_rollover,
    "replay": measure_replay,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description="Measures the serving side beside its floors and goals.",
    )
    parser.add_argument(
        "--run",
        type=Path,
        default=ROOT / "runs" / "movielens-1m",
        help="folder of a pipeline run that pushed a model; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--figures",
        nargs="+",
        choices=MEASUREMENTS,
        default=list(MEASUREMENTS),
        help="which to measure; default: all",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="of each measurement; default: %(default)s",
    )
    parser.add_argument(
        "--rollovers",
        type=int,
        default=ROLLOVERS,
        help="versions pushed for the figures of rollovers; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--gateway-flags",
        type=shlex.split,
        default=[],
        help="more flags of python -m serving.gateway, in one string",
    )
    parser.add_argument(
        "--over-grpc",
        action="store_true",
        help="let the gateway reach the model server by gRPC, as it must "
        "reach TF Serving, instead of by a local socket; the figures are told "
        "beside the others",
    )
    parser.add_argument(
        "--keep-nothing",
        action="store_true",
        help="have the model server score every Rank, as it does for models "
        "without vectors (--kept-vectors 0); the figures are told beside the "
        "others",
    )
    parser.add_argument(
        "--keep-awake",
        action="store_true",
        help="keep the cores awake meanwhile, as a machine does whose kernel "
        "polls before it halts; the figures are told beside the others",
    )
    parser.add_argument(
        "--gateway-python",
        default=sys.executable,
        help="Python that runs the gateway, and the bare servers that it is "
        "compared with; one with the packages of its image "
        "(docs/deploy.md) shows what is deployed; default: this one",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="JSON to write; default: %(default)s",
    )
    arguments = parser.parse_args()
    measurements = MEASUREMENTS | {
        "rollover": functools.partial(
            measure_rollover, rollovers=arguments.rollovers
        )
    }
    figures: list[Figure] = []
    flags = list(arguments.gateway_flags)
    if arguments.keep_nothing:
        flags.append("--kept-vectors=0")
    with (
        kept_awake() if arguments.keep_awake else contextlib.nullcontext(),
        running(
            arguments.run,
            flags,
            arguments.over_grpc,
            arguments.gateway_python,
        ) as setting,
    ):
        for name in arguments.figures:
            figures += measurements[name](setting, arguments.seconds)
    for is_so, words in (
        (arguments.over_grpc, "over gRPC"),
        (arguments.keep_awake, "cores kept awake"),
        (arguments.keep_nothing, "nothing kept"),
    ):
        if is_so:
            figures = [
                dataclasses.replace(figure, name=f"{figure.name}, {words}")
                for figure in figures
            ]
    show(figures)
    write(figures, arguments.results, versions_of(arguments.gateway_python))


if __name__ == "__main__":
    main()
