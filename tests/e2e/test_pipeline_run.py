"""The whole pipeline on a small log: killed, gone on with, run again."""

import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from pipeline.catalog import load_dataset_spec
from pipeline.errors import RunLockedError, StageError
from pipeline.local_runner import run_pipeline
from pipeline.pipeline_config import PipelineConfig
from pipeline.run_config import ADAPTIVE_MODEL
from pipeline.stages import CACHED, DONE
from serving.contract.manifest import AdaptiveManifest
from serving.contract.regimes import JOINT
from tests.helpers import small_shop

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RESOLVER = "earlier_blessed_model"
KILLED_IN = "Transform"
BEFORE_THE_KILL = {
    "InteractionExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "ExampleValidator",
    "AnomalyGate",
}

MAIN = """
import pathlib, sys
from pipeline.local_runner import run_pipeline
from tests.e2e.test_pipeline_run import make_config
run_pipeline(make_config(pathlib.Path(sys.argv[1])))
"""


def make_config(folder):
    spec = folder / "data" / "small_shop.yaml"
    return PipelineConfig(
        dataset=load_dataset_spec(str(spec)),
        data_folder=folder / "data",
        run_dir=folder / "run",
        overrides={"max_steps": 60, "meta_batch_size": 32},
        # With two dozen cold users the interval is wide.
        min_lift_over_joint=-1.0,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a run that was killed while Transform was at work."""
    folder = tmp_path_factory.mktemp("e2e")
    small_shop.write_small_shop(folder / "data")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if KILLED_IN in line:
            break
    # Somebody starts a second run meanwhile.
    with pytest.raises(RunLockedError, match=f"process {process.pid}"):
        run_pipeline(make_config(folder))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """The run that goes on where the killed one was."""
    return run_pipeline(make_config(folder))


@pytest.mark.fault
def test_killed_run_goes_on_from_the_cache(finished):
    states = {stage.node: stage.state for stage in finished.stages}
    cached = {node for node, state in states.items() if state == CACHED}
    assert cached == BEFORE_THE_KILL
    assert {s for n, s in states.items() if n not in cached} == {DONE}


@pytest.mark.fault
def test_killed_run_leaves_no_half_published_artifact(folder, finished):
    config = metadata.sqlite_metadata_connection_config(
        str(folder / "run" / "metadata.sqlite")
    )
    with metadata.Metadata(config) as handle:
        executions = handle.store.get_executions()
    complete = {
        str(execution.id)
        for execution in executions
        if execution.last_known_state == metadata_store_pb2.Execution.COMPLETE
    }
    outputs = {
        path.name
        for path in (folder / "run" / "pipeline_root").glob("*/*/*")
        if path.name.isdecimal()
    }
    assert outputs <= complete
    assert not any(
        execution.last_known_state == metadata_store_pb2.Execution.RUNNING
        for execution in executions
    )


@pytest.mark.parametrize("name", [ADAPTIVE_MODEL, JOINT])
def test_both_models_are_pushed(folder, finished, name):
    [version] = (folder / "run" / "serving" / name).iterdir()
    assert version.name.isdecimal()
    assert (version / "saved_model.pb").is_file()
    manifest = AdaptiveManifest.load(version)
    assert [f.name for f in manifest.user_features] == ["age", "city"]


def test_stages_say_what_they_made(finished):
    summaries = {stage.node: stage.summary for stage in finished.stages}
    rows = small_shop.NUM_USERS * small_shop.EVENTS_PER_USER
    assert summaries["EpisodeGen"].startswith(
        f"{rows:,} rows, {small_shop.NUM_USERS} users"
    )
    assert summaries["AnomalyGate"] == "no anomalies"


def test_unchanged_run_is_cached_throughout(folder, finished):
    again = run_pipeline(make_config(folder))
    states = {stage.node: stage.state for stage in again.stages}
    states.pop(RESOLVER)  # TFX resolves anew each time.
    assert set(states.values()) == {CACHED}
    for name in (ADAPTIVE_MODEL, JOINT):
        assert len(list((folder / "run" / "serving" / name).iterdir())) == 1


def test_removed_version_is_pushed_again(folder, finished):
    shutil.rmtree(folder / "run" / "serving" / JOINT)
    again = run_pipeline(make_config(folder))
    states = {stage.node: stage.state for stage in again.stages}
    ran = {node for node, state in states.items() if state == DONE}
    assert ran == {f"VersionedPusher.{JOINT}", RESOLVER}
    assert list((folder / "run" / "serving" / JOINT).iterdir())


def test_feature_without_values_stops_the_run_at_the_gate(tmp_path):
    """No shopper of meta_train has an age: surely a mistake in the spec."""
    small_shop.write_small_shop(tmp_path / "data")
    shoppers = tmp_path / "data" / "shoppers.csv"
    lines = shoppers.read_text().splitlines()
    without_age = [
        ",".join([line.split(",")[0], "", line.split(",")[2]])
        for line in lines[1:]
    ]
    shoppers.write_text("\n".join([lines[0], *without_age]) + "\n")
    with pytest.raises(StageError, match=r"(?s)AnomalyGate.*meta_train, age"):
        run_pipeline(make_config(tmp_path))
    assert not pathlib.Path(tmp_path / "run/pipeline_root/Transform").exists()
