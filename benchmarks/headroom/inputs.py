"""What is read: the run's models, its users' events, and the whole log."""

import pathlib

import pandas as pd
import tensorflow as tf
from tfx_bsl.coders import example_coder

from components.cold_users import ColdUser, join_runs, runs_of_users
from components.dataset_spec import DatasetSpec
from components.interaction_example_gen.files import find_files
from components.interaction_example_gen.reading import read_batches
from components.served_model import ServedModel
from pipeline.fetch import fetch_dataset
from serving.contract import protocol


def newest(folder: pathlib.Path) -> pathlib.Path:
    numbered = [path for path in folder.iterdir() if path.name.isdecimal()]
    return max(numbered, key=lambda path: int(path.name))


def newest_model(folder: pathlib.Path) -> ServedModel:
    return ServedModel.load(newest(folder) / "Format-Serving")


def read_users(root: pathlib.Path, model: ServedModel) -> list[ColdUser]:
    """meta_valid's users, from the pipeline's raw examples."""
    folder = newest(root / "InteractionExampleGen" / "examples")
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    runs: dict[str, list[ColdUser]] = {}
    for file in sorted((folder / f"Split-{protocol.META_VALID}").iterdir()):
        records = tf.data.TFRecordDataset(str(file), compression_type="GZIP")
        batch = decoder.DecodeBatch(list(records.as_numpy_iterator()))
        for run in runs_of_users(batch, model.manifest.user_features):
            runs.setdefault(run.user_id, []).append(run)
    return [join_runs(parts) for parts in runs.values()]


def read_log(spec: DatasetSpec) -> pd.DataFrame:
    """The log with the values that labels are made from, and the labels."""
    folder = str(fetch_dataset(spec))
    wanted = [spec.user_column, spec.item_column, spec.label.column]
    frames = [
        batch.columns.to_pandas()
        for info in find_files(folder, spec.interactions.files)
        for batch in read_batches(
            info.path, folder, spec.interactions, wanted, "interactions"
        )
    ]
    log = pd.concat(frames).set_axis(["user", "item", "star"], axis=1)
    log["star"] = log["star"].astype(float)
    log["liked"] = (log["star"] >= spec.label.at_least).astype(float)
    return log.drop_duplicates(["user", "item"], keep="last")
