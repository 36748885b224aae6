"""The gate judges what TFDV itself finds in broken tables."""

import os
import pathlib

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import writer_utils

from components.anomaly_gate import executor
from components.artifacts import DataBlessing
from components.errors import AnomalyError
from pipeline.schema import build_schema
from serving.contract.features import Feature

FEATURES = (Feature("gender", "categorical"), Feature("age", "numeric"))


def sound_table():
    return pd.DataFrame(
        {
            "user_id": ["1", "1", "2"],
            "item_id": ["a", "b", "a"],
            "label": np.array([0.0, 1.0, 1.0], np.float32),
            "timestamp": [10, 20, 30],
            "position": [0, 1, 0],
            "gender": ["f", "f", None],
            "age": [30.0, 30.0, None],
        }
    )


def run_gate(tmp_path, **tables):
    """Runs the gate on what TFDV finds in one table per split."""
    schema = build_schema(FEATURES)
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(tmp_path / "anomalies")
    anomalies.split_names = artifact_utils.encode_split_names(list(tables))
    for split, table in tables.items():
        found = tfdv.validate_statistics(
            tfdv.generate_statistics_from_dataframe(table), schema
        )
        folder = artifact_utils.get_split_uri([anomalies], split)
        pathlib.Path(folder).mkdir(parents=True)
        writer_utils.write_anomalies(f"{folder}/SchemaDiff.pb", found)
    blessing = DataBlessing()
    blessing.uri = str(tmp_path / "blessing")
    executor.Executor().Do(
        {"anomalies": [anomalies]}, {"blessing": [blessing]}, {}
    )
    return blessing


def test_sound_examples_pass(tmp_path):
    blessing = run_gate(
        tmp_path, meta_train=sound_table(), meta_test=sound_table()
    )
    assert blessing.get_int_custom_property("num_findings") == 0
    assert blessing.get_string_custom_property("summary") == "no anomalies"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", np.array([0.0, 1.0, 5.0], np.float32)),
        ("label", np.array([0.0, 1.0, np.nan], np.float32)),
        ("user_id", ["1", None, "2"]),
        ("timestamp", ["10", "20", "30"]),
        ("timestamp", [10, -20, 30]),
        ("position", [0.0, 1.0, 0.0]),
    ],
)
def test_broken_event_column_blocks_in_any_split(tmp_path, column, values):
    broken = sound_table()
    broken[column] = values
    with pytest.raises(AnomalyError, match=rf"meta_valid, {column}: .*check"):
        run_gate(tmp_path, meta_train=sound_table(), meta_valid=broken)


def test_absent_event_column_blocks(tmp_path):
    with pytest.raises(AnomalyError, match="meta_train, item_id"):
        run_gate(tmp_path, meta_train=sound_table().drop(columns="item_id"))


def test_feature_of_another_type_blocks(tmp_path):
    broken = sound_table()
    broken["age"] = ["thirty", "thirty", "forty"]
    with pytest.raises(AnomalyError, match=r"meta_train, age: .*kind"):
        run_gate(tmp_path, meta_train=broken)


def test_feature_without_values_blocks_in_meta_train_only(tmp_path):
    empty = sound_table().drop(columns="gender")
    blessing = run_gate(
        tmp_path / "judged", meta_train=sound_table(), meta_test=empty
    )
    assert blessing.get_string_custom_property("summary") == (
        "1 not blocking, in gender"
    )
    with pytest.raises(AnomalyError, match=r"meta_train, gender: .*remove"):
        run_gate(tmp_path / "train", meta_train=empty, meta_test=empty)


def test_feature_missing_for_most_users_passes(tmp_path):
    sparse = pd.concat([sound_table()] * 20, ignore_index=True)
    sparse.loc[1:, ["age", "gender"]] = None
    blessing = run_gate(tmp_path, meta_train=sparse)
    assert blessing.get_int_custom_property("num_findings") == 0


def test_unknown_column_is_reported_and_passes(tmp_path):
    wider = sound_table()
    wider["postcode"] = ["1", "2", "3"]
    blessing = run_gate(tmp_path, meta_train=wider)
    assert "postcode" in blessing.get_string_custom_property("summary")
    findings = (tmp_path / "blessing" / executor.FINDINGS_FILE).read_text()
    assert "SCHEMA_NEW_COLUMN" in findings


def test_split_without_examples_blocks(tmp_path):
    with pytest.raises(AnomalyError, match="meta_valid, all columns"):
        run_gate(
            tmp_path,
            meta_train=sound_table(),
            meta_valid=sound_table().iloc[:0],
        )


def test_every_blocking_anomaly_is_named(tmp_path):
    broken = sound_table()
    broken["label"] = np.array([0.0, 1.0, 5.0], np.float32)
    broken["timestamp"] = [10, -20, 30]
    with pytest.raises(AnomalyError) as raised:
        run_gate(tmp_path, meta_train=broken, meta_test=broken)
    for split in ("meta_train", "meta_test"):
        for column in ("label", "timestamp"):
            assert f"{split}, {column}: " in str(raised.value)
