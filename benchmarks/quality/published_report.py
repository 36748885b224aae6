"""Runs a published protocol on MovieLens-1M; prints and writes what it says."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.about import about
from benchmarks.quality.artifacts import Artifacts
from benchmarks.quality.cells import write_json
from benchmarks.quality.inputs import load_inputs
from benchmarks.quality.published import run_published
from benchmarks.quality.published_data import (
    PublishedProtocol,
    read_rated_users,
)
from pipeline.catalog import load_dataset_spec
from pipeline.fetch import fetch_dataset

PUBLISHED_DATASET = "movielens-1m"


def write_published(
    artifacts: Artifacts,
    protocol: PublishedProtocol,
    overrides: Mapping[str, Any],
    seeds: Sequence[int],
    draws: int,
    output: pathlib.Path,
) -> None:
    """Trains and judges by the protocol.

    Args:
        artifacts: Of MovieLens-1M.
        protocol: Which one.
        overrides: Hyper-parameters that differ from the dataset's.
        seeds: Of divisions and trainings.
        draws: Of the bootstrap.
        output: The JSON file.
    """
    spec = load_dataset_spec(PUBLISHED_DATASET)
    inputs = load_inputs(artifacts, spec.user_features, spec.item_features)
    rated = read_rated_users(
        inputs.data, artifacts, fetch_dataset(spec), protocol
    )
    found = run_published(
        inputs.data,
        rated,
        protocol,
        {**spec.hyper_parameters, **overrides},
        seeds,
        draws,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        output, about("benchmarks.quality") | {"seeds": list(seeds)} | found
    )
    Console(width=100).print(_table(protocol, found))


def _table(protocol: PublishedProtocol, found: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"Protocol of {protocol.name}: {found['users']:,} users"
    )
    figures = list(next(iter(found["ours"].values())))
    table.add_column("model")
    for figure in figures:
        table.add_column(figure, justify="right")
    for name, of in found["ours"].items():
        intervals = (of[figure] for figure in figures)
        table.add_row(
            name,
            *(
                f"{i['value']:.4f} ({i['low']:.4f} to {i['high']:.4f})"
                for i in intervals
            ),
        )
    table.add_section()
    for name, of in found["published"].items():
        table.add_row(
            f"published: {name}",
            *(f"{of[f]:.4f}" if f in of else "" for f in figures),
        )
    return table
