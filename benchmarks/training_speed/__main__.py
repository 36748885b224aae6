"""How fast meta-training is, beside plain training and a loop over users.

    python -m benchmarks.training_speed [--rounds 30] [--batch 256 1024]
        [--presets user_scale learned ...]

A task has a support set of 10 and a query set of 30 and takes 5 second-order
inner steps. On the same made-up examples of MovieLens 1M's size, with the same
model, optimizer and moving average:

- plain: a supervised step on all 40 rows of each user;
- ours: a meta step, by preset and solver;
- per user: the same meta-learning in the manner of MeLU's reference
  implementations, a loop over users, eager and as a graph per user;
- fit: ours by Keras' `fit`, tasks drawn from all users' episodes meanwhile.

Steps of different kinds take turns, so that what else the machine does hits
all alike. Rates and ratios are of each kind's best round, which other load
touches least; the median stands beside it. Prints a table and writes
benchmarks/results/training_speed.json.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.training_speed.synthetic import (  # sets Keras 2
    QUERY_SET,
    SUPPORT,
    Log,
)

import tensorflow as tf  # isort: skip
from rich.console import Console
from rich.table import Table

from benchmarks.about import about
from benchmarks.training_speed.fit_rate import fit_rate
from benchmarks.training_speed.steps import (
    meta_step,
    per_user_step,
    plain_step,
)
from trainer.config import NEWTON, PARTITION_PRESETS, USER_OFFSET

RESULTS = pathlib.Path(__file__).parents[1] / "results"
FLOOR, GOAL = 3_300, 10_000
GOAL_RATIO = 2.0
PLAIN, OURS = "plain supervised step", "user_offset, second-order"
# Of the loop over users, which takes that long.
_USERS_EAGER, _USERS_GRAPH = 4, 32


@dataclasses.dataclass
class Kind:
    """One kind of step.

    Attributes:
        name: What it is.
        step: Takes one.
        users: Tasks per step.
        every: Takes part in every so manieth round.
    """

    name: str
    step: Callable[[], Any]
    users: int
    every: int = 1
    seconds: list[float] = dataclasses.field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_speed",
        description="Speed of meta-training beside plain training.",
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    parser.add_argument(
        "--presets",
        nargs="*",
        choices=PARTITION_PRESETS,
        default=[p for p in PARTITION_PRESETS if p != USER_OFFSET],
        help="measured beside the default one; all of them if not given",
    )
    arguments = parser.parse_args()
    results = []
    for users in arguments.batch:
        figures = measure(users, arguments.rounds, arguments.presets)
        show(users, figures)
        results.append({"batch": users, "figures": figures})
    fit = fit_rate(arguments.batch[0])
    print(f"fit with sampling, batch {arguments.batch[0]}: {fit:,.0f} tasks/s")
    document = {
        **about("benchmarks.training_speed"),
        "data": "made up, of MovieLens 1M's size",
        "task": {"support": SUPPORT, "query_set": QUERY_SET, "inner_steps": 5},
        "results": results,
        "fit_tasks_per_second": round(fit),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "training_speed.json"
    path.write_text(json.dumps(document, indent=2) + "\n")


def measure(
    users: int, rounds: int, presets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Times all kinds of steps in turns."""
    log = Log()
    catalog = log.catalog()
    tasks = log.tasks(users, SUPPORT, QUERY_SET)
    kinds = [Kind(PLAIN, plain_step(catalog, tasks), users)]
    for name, values in variants(presets):
        kinds.append(Kind(name, meta_step(catalog, tasks, values), users))
    for name, count, in_graph, every in (
        ("per user, graph", _USERS_GRAPH, True, 5),
        ("per user, eager", _USERS_EAGER, False, 10),
    ):
        few = tf.nest.map_structure(lambda t, n=count: t[:n], tasks)
        step = per_user_step(catalog, few, in_graph)
        kinds.append(Kind(name, step, count, every))
    for kind in kinds:
        kind.step()
        kind.step()
    for number in range(rounds):
        for kind in kinds:
            if number % kind.every == 0:
                start = time.perf_counter()
                kind.step()
                kind.seconds.append(time.perf_counter() - start)
    plain = min(kinds[0].seconds) / users
    return {
        kind.name: {
            "milliseconds": 1e3 * min(kind.seconds),
            "median_milliseconds": 1e3 * statistics.median(kind.seconds),
            "tasks_per_second": kind.users / min(kind.seconds),
            "times_plain": min(kind.seconds) / kind.users / plain,
        }
        for kind in kinds
    }


def variants(presets: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What is measured of ours."""
    result: list[tuple[str, dict[str, Any]]] = [
        (OURS, {}),
        ("user_offset, first-order", {"first_order": True}),
        ("user_offset, newton", {"solver": NEWTON}),
    ]
    for preset in presets:
        result.append((f"{preset}, second-order", {"partition": preset}))
    return result


def show(users: int, figures: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"Training steps of {users} users")
    table.add_column("step")
    for heading in ("ms", "median ms", "tasks/s", "x plain"):
        table.add_column(heading, justify="right")
    for name, figure in figures.items():
        table.add_row(
            name,
            f"{figure['milliseconds']:.1f}",
            f"{figure['median_milliseconds']:.1f}",
            f"{figure['tasks_per_second']:,.0f}",
            f"{figure['times_plain']:.2f}",
        )
    console = Console()
    # A file or a pipe has no width of its own.
    console.width = max(console.width, 90)
    console.print(table)
    ours = figures[OURS]
    rate, ratio = ours["tasks_per_second"], ours["times_plain"]
    verdict = "met" if rate >= GOAL else "missed"
    console.print(
        f"{rate:,.0f} tasks/s (floor {FLOOR:,}, goal {GOAL:,}: {verdict}); "
        f"{ratio:.2f} plain steps (goal {GOAL_RATIO:.0f}: "
        f"{'met' if ratio <= GOAL_RATIO else 'missed'})"
    )


if __name__ == "__main__":
    main()
