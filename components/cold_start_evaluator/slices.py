"""TFMA over the scored streams: the same regimes, slice by slice.

The regimes go in as TFMA models with `joint` as the baseline, so that one
pass over the rows gives AUC of each and the differences, in the files that
TFMA's viewers read. TFMA takes about 0.5 ms per row and slice, so it sees the
rows of as many users as fit a bound; intervals are left to `figures`, which
resamples users and not rows.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from components.cold_start_evaluator.score_users import user_hash
from serving.contract.features import JUDGED_ROWS
from serving.contract.regimes import JOINT, REGIMES

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# TFMA's config comes from its proto: `tfma.EvalConfig` exists or not by the
# version and by what was imported before.
from tensorflow_model_analysis.api import model_eval_lib
from tensorflow_model_analysis.proto import config_pb2

# A feature with more values than this makes slices too small to read.
MAX_SLICE_VALUES = 32
_NUM_RANGES = 4
_BATCH_ROWS = 4096
_MISSING = "missing"
# Columns that the rows have already; a feature may be called so, too.
_TAKEN = ("label", "window", *REGIMES)


def slice_columns(users: pa.Table) -> pa.Table:
    """Turns user features into text to slice by.

    Args:
        users: The table `users`.

    Returns:
        `user_id` and a text column per feature: a categorical one as it is, a
        numeric one as the range between two quartiles it lies in. Features
        with too many values, or with one, are left out.
    """
    columns: dict[str, Any] = {"user_id": users.column("user_id")}
    for field in users.schema:
        if field.name in ("user_id", JUDGED_ROWS):
            continue
        column = users.column(field.name)
        if pa.types.is_floating(field.type):
            values = _ranges(column.to_numpy())
        else:
            values = [value or _MISSING for value in column.to_pylist()]
        if 1 < len(set(values)) <= MAX_SLICE_VALUES:
            taken = field.name in _TAKEN
            columns[f"user_{field.name}" if taken else field.name] = values
    return pa.table(columns)


def rows_to_slice(stream: pa.Table, users: pa.Table, max_rows: int) -> pa.Table:
    """Joins the stream's rows with what to slice by.

    Args:
        stream: The table `stream`.
        users: What `slice_columns` returned.
        max_rows: Keep the users of lowest hash whose rows fit this bound.

    Returns:
        `label`, `window` (as text), a probability per regime, and the
        columns of `users`.
    """
    ids, user, counts = np.unique(
        stream.column("user_id").to_numpy(),
        return_inverse=True,
        return_counts=True,
    )
    order = np.argsort([user_hash(user_id) for user_id in ids])
    fits = np.cumsum(counts[order]) <= max_rows
    kept = np.zeros(len(ids), bool)
    kept[order[fits]] = True
    rows = stream.filter(pa.array(kept[user]))
    table = pa.table(
        {
            "user_id": rows.column("user_id"),
            "label": rows.column("label"),
            "window": rows.column("window").cast(pa.string()),
            **{name: _sigmoid(rows.column(name)) for name in REGIMES},
        }
    )
    return table.join(users, "user_id")


def eval_config(slice_by: Sequence[str]) -> config_pb2.EvalConfig:
    """TFMA's configuration: AUC and counts, overall and by each column."""
    config = config_pb2.EvalConfig()
    for name in REGIMES:
        config.model_specs.add(
            name=name,
            prediction_key=name,
            label_key="label",
            is_baseline=name == JOINT,
        )
    metrics = config.metrics_specs.add(model_names=REGIMES).metrics
    metrics.add(class_name="AUC")
    metrics.add(class_name="ExampleCount")
    config.slicing_specs.add()
    for column in slice_by:
        config.slicing_specs.add(feature_keys=[column])
    # There is no model behind these columns to ask for metrics of its own.
    config.options.include_default_metrics.value = False
    return config


def write_slices(
    pipeline: beam.Pipeline, rows: pa.Table, output_dir: str
) -> None:
    """Adds TFMA's evaluation of the rows to a pipeline.

    Args:
        pipeline: The pipeline.
        rows: What `rows_to_slice` returned.
        output_dir: Where TFMA writes its files.
    """
    not_sliced = {"user_id", "label", *REGIMES}
    slice_by = [name for name in rows.column_names if name not in not_sliced]
    _ = (
        pipeline
        | "Rows" >> beam.Create(list(_list_batches(rows)))
        | "TFMA"
        >> model_eval_lib.ExtractEvaluateAndWriteResults(
            eval_config=eval_config(slice_by), output_path=output_dir
        )
    )


def _list_batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Batches of one-element lists, the form of decoded tf.Examples."""
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        offsets = pa.array(np.arange(batch.num_rows + 1), pa.int32())
        yield pa.RecordBatch.from_arrays(
            [
                pa.ListArray.from_arrays(
                    offsets,
                    column.cast(pa.binary())
                    if pa.types.is_string(column.type)
                    else column,
                )
                for column in batch.columns
            ],
            names=batch.schema.names,
        )


def _ranges(values: np.ndarray) -> list[str]:
    """The range between quartiles that each number lies in, as text."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [_MISSING] * len(values)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _NUM_RANGES + 1)))
    place = np.clip(
        np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2
    )
    return [
        f"{edges[at]:g} to {edges[min(at + 1, len(edges) - 1)]:g}"
        if np.isfinite(value)
        else _MISSING
        for at, value in zip(np.maximum(place, 0), values, strict=True)
    ]


def _sigmoid(logits: pa.ChunkedArray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits.to_numpy().astype(np.float64)))
