"""How fast InteractionExampleGen reads, beside TFX's CsvExampleGen.

    python -m benchmarks.example_gen [--datasets movielens-100k ...]

Ours joins three tables, sorts, splits by user and validates every row;
CsvExampleGen reads the log alone. A rate counts the tf.Examples written: one
for a row of the log, or, where negatives are sampled, one for each of these
too. Both write gzipped TFRecords of tf.Examples on Beam's in-memory runner, in
this process, one after the other, on the same log. Prints a table and writes
benchmarks/results/example_gen.json.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pyarrow.csv
from rich.console import Console
from rich.table import Table
from tfx.components.example_gen import utils
from tfx.components.example_gen.csv_example_gen import executor as csv_gen
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import proto_utils

from benchmarks.about import about
from components.artifacts import DeadLetters, ItemCatalog
from components.dataset_spec import DatasetSpec
from components.interaction_example_gen import executor
from pipeline.catalog import load_dataset_spec
from pipeline.fetch import DATA_VARIABLE, fetch_dataset

ROOT = pathlib.Path(__file__).parent.parent
BEAM_ARGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
]
TARGET_PER_CORE_SECOND = 20_000
NUMBERS = ("rows", "Examples", "wall s", "CPU s", "Examples/s per core")

# Reads a dataset's folder into an output folder; returns how many rows it
# read and how many Examples it wrote.
Run = Callable[[DatasetSpec, pathlib.Path, pathlib.Path], tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.example_gen",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=["movielens-100k", "movielens-1m", "complete-journey"],
        help="what ours reads; the first one is also given to CsvExampleGen",
    )
    arguments = parser.parse_args()
    os.environ.setdefault(DATA_VARIABLE, str(ROOT.parent / "shared" / "data"))
    first = arguments.datasets[0]
    runs = [("CsvExampleGen", first, measure(run_theirs, first))]
    for name in arguments.datasets:
        measured = measure(run_ours, name)
        runs.append(("InteractionExampleGen", name, measured))
    results = [
        {"component": component, "dataset": name, **measured}
        for component, name, measured in runs
    ]
    show(results)
    path = ROOT / "benchmarks" / "results" / "example_gen.json"
    path.parent.mkdir(exist_ok=True)
    document = {
        **about("benchmarks.example_gen"),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def measure(run: Run, name: str) -> dict[str, float]:
    """Runs once; returns rows read, Examples written, and how fast."""
    spec = load_dataset_spec(name)
    folder = fetch_dataset(spec)
    with tempfile.TemporaryDirectory() as output:
        before, start = os.times(), time.perf_counter()
        rows, examples = run(spec, folder, pathlib.Path(output))
        wall, after = time.perf_counter() - start, os.times()
    # Of this process and of those it started, in user and system mode.
    cpu = sum(after[:4]) - sum(before[:4])
    return {
        "rows": rows,
        "examples": examples,
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "examples_per_core_second": round(examples / cpu),
    }


def run_ours(
    spec: DatasetSpec, folder: pathlib.Path, output: pathlib.Path
) -> tuple[int, int]:
    artifacts = {
        name: [artifact(kind, output / name)]
        for name, kind in (
            ("examples", standard_artifacts.Examples),
            ("catalog", ItemCatalog),
            ("dead_letters", DeadLetters),
        )
    }
    properties = {"dataset_spec": spec.to_json(), "data_folder": str(folder)}
    executor.Executor(context()).Do({}, artifacts, properties)
    path = output / "dead_letters" / "summary.json"
    summary = json.loads(path.read_text())
    return summary["rows"]["interactions"], sum(summary["examples"].values())


def run_theirs(
    spec: DatasetSpec, folder: pathlib.Path, output: pathlib.Path
) -> tuple[int, int]:
    """CsvExampleGen needs commas and a header line: written beforehand."""
    options = pyarrow.csv.ParseOptions(delimiter=spec.interactions.delimiter)
    log = pyarrow.csv.read_csv(
        folder / spec.interactions.files[0],
        parse_options=options,
        read_options=pyarrow.csv.ReadOptions(
            column_names=list(spec.interactions.columns) or None
        ),
    )
    (output / "csv").mkdir()
    pyarrow.csv.write_csv(log, output / "csv" / "log.csv")
    input_config = utils.make_default_input_config("*.csv")
    output_config = utils.make_default_output_config(input_config)
    csv_gen.Executor(context()).Do(
        {},
        {
            "examples": [
                artifact(standard_artifacts.Examples, output / "examples")
            ]
        },
        {
            "input_base": str(output / "csv"),
            "input_config": proto_utils.proto_to_json(input_config),
            "output_config": proto_utils.proto_to_json(output_config),
            "output_data_format": example_gen_pb2.FORMAT_TF_EXAMPLE,
            "output_file_format": example_gen_pb2.FORMAT_TFRECORDS_GZIP,
        },
    )
    return len(log), len(log)


def artifact(kind: type[Artifact], path: pathlib.Path) -> Artifact:
    made = kind()
    made.uri = str(path)
    path.mkdir()
    return made


def context() -> BaseBeamExecutor.Context:
    return BaseBeamExecutor.Context(beam_pipeline_args=BEAM_ARGS)


def show(results: list[dict[str, Any]]) -> None:
    table = Table(title="Reading an interaction log")
    for heading in ("component", "dataset"):
        table.add_column(heading)
    for heading in NUMBERS:
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            result["component"],
            result["dataset"],
            f"{result['rows']:,}",
            f"{result['examples']:,}",
            f"{result['wall_seconds']:.1f}",
            f"{result['cpu_seconds']:.1f}",
            f"{result['examples_per_core_second']:,}",
        )
    console = Console()
    # A file or a pipe has no width of its own.
    console.width = max(console.width, 100)
    console.print(table)
    slowest = min(
        result["examples_per_core_second"]
        for result in results
        if result["component"] == "InteractionExampleGen"
    )
    console.print(
        f"Target {TARGET_PER_CORE_SECOND:,} Examples/s per core: "
        + ("met." if slowest >= TARGET_PER_CORE_SECOND else "missed.")
    )


if __name__ == "__main__":
    main()
