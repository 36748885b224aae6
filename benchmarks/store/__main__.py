"""How fast users' weights and events are stored, and what they take.

    python -m benchmarks.store [--users 1000000] [--stores lmdb redis]

Fills a store with users as MovieLens-1M has them (17 float32 weights, as many
events in the reservoir as its users rated, four features that were told) in
random order, then times point reads of random users, compare-and-puts and
appends, all through the contracts that the gateway uses. LMDB lies in a
temporary folder that the system's cache holds, as that of a gateway that has
run for a while; Redis is a server of its own on a Unix socket, with an
append-only file. Bytes are what the file has grown to (LMDB) or the server's
memory (Redis), with everything in it, over the users. Writes wait for the
disk: a plain fsync of it is timed beside them.

Prints a table and writes benchmarks/results/store.json.
"""

import argparse
import json
import pathlib
import random
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.about import about
from benchmarks.store.calls import (
    WRITERS,
    append,
    fsync_milliseconds,
    log_bytes,
    percentile,
    put_many,
    put_next,
    rate,
    timed,
)
from benchmarks.store.places import Place, open_lmdb, open_redis
from benchmarks.store.users import RESERVOIRS, key_of, record_of
from serving.store.record_bytes import encode_record

RESULTS = pathlib.Path(__file__).parents[1] / "results"
READS = 50_000
# The median lot counts: one may meet something else that the machine does.
LOTS = 5
FLOORS = {
    "lmdb": {"read p99 ms": 0.2, "bytes per user": 1024},
    "redis": {"read p99 ms": 1.0, "bytes per user": 1024},
}
GOALS = {
    "lmdb": {"read p99 ms": 0.05, "bytes per user": 400},
    "redis": {"read p99 ms": 0.5, "bytes per user": 400},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument(
        "--stores", nargs="+", default=["lmdb", "redis"], choices=list(FLOORS)
    )
    arguments = parser.parse_args()
    results = []
    for name in arguments.stores:
        opened = open_lmdb if name == "lmdb" else open_redis
        with opened(arguments.users) as place:
            results.append(measure(place, arguments.users))
    show(results)
    path = RESULTS / "store.json"
    document = {
        **about("benchmarks.store"),
        "floors": FLOORS,
        "goals": GOALS,
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def measure(place: Place, users: int) -> dict[str, Any]:
    filled = place.bytes_used() - place.bytes_empty
    keys = [key_of(random.randrange(users)) for _ in range(READS)]
    # They are all there, and whole.
    assert None not in place.store.get_many(keys[:1000])
    reads = [timed(place.store.get, keys[lot::LOTS]) for lot in range(LOTS)]
    batches = [keys[start : start + 32] for start in range(0, 6400, 32)]
    batch_reads = timed(place.store.get_many, batches)
    sizes = [len(encode_record(record_of(user))) for user in range(RESERVOIRS)]
    return {
        "store": place.name,
        "users": users,
        "record bytes, mean": float(np.mean(sizes)),
        "record bytes, most": max(sizes),
        "bytes per user": filled / users,
        "read p50 ms": median([percentile(lot, 50) for lot in reads]),
        "read p99 ms": median([percentile(lot, 99) for lot in reads]),
        "batch of 32 p50 ms": percentile(batch_reads, 50),
        "batch of 32 p99 ms": percentile(batch_reads, 99),
        "put p50 ms": percentile(timed(put_next(place.store), range(50)), 50),
        f"puts/s, {WRITERS} writers": rate(put_next(place.store)),
        f"puts/s, {WRITERS} writers of 32": 32 * rate(put_many(place.store)),
        "append p50 ms": percentile(timed(append(place.log), range(50)), 50),
        f"appends/s, {WRITERS} writers": rate(append(place.log)),
        **log_bytes(place),
        "fsync p50 ms": fsync_milliseconds(),
    }


def show(results: list[dict[str, Any]]) -> None:
    table = Table(title="Stores and logs")
    table.add_column("figure")
    for result in results:
        table.add_column(result["store"], justify="right")
    table.add_column("floor / goal", justify="right")
    for figure in results[0]:
        if figure == "store":
            continue
        bounds = [
            f"{FLOORS[r['store']][figure]:g} / {GOALS[r['store']][figure]:g}"
            for r in results
            if figure in FLOORS[r["store"]]
        ]
        table.add_row(
            figure,
            *(number(result[figure]) for result in results),
            ", ".join(dict.fromkeys(bounds)),
        )
    console = Console()
    # A file or a pipe has no width of its own.
    console.width = max(console.width, 100)
    console.print(table)


def number(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
