"""The runner: reports, caches, stops on failures, recovers from kills."""

import json
import signal
import subprocess
import sys
import time

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from pipeline.errors import StageError
from pipeline.reporting_runner import (
    ReportingRunner,
    describe,
    root_message,
)
from pipeline.stages import CACHED, DONE, FAILED, RUNNING, print_stage
from tests.helpers import tiny_pipeline

# Not as a module to run: its components would be known to TFX's cache as
# those of __main__.
MAIN = """
import pathlib, sys
from tests.helpers import tiny_pipeline
tiny_pipeline.main(pathlib.Path(sys.argv[1]))
"""


def run(folder, events=None):
    report = events.append if events is not None else lambda stage: None
    return ReportingRunner(report).run(tiny_pipeline.make_pipeline(folder))


def executions(folder):
    config = metadata.sqlite_metadata_connection_config(
        str(folder / "metadata.sqlite")
    )
    with metadata.Metadata(config) as handle:
        return handle.store.get_executions()


def test_each_node_is_reported_when_it_starts_and_ends(tmp_path):
    events = []
    finished = run(tmp_path, events)
    assert [(stage.node, stage.state) for stage in events] == [
        ("First", RUNNING),
        ("First", DONE),
        ("Second", RUNNING),
        ("Second", DONE),
    ]
    assert events[1].summary == "one file"
    assert (events[1].number, events[1].total) == (1, 2)
    whole = finished.output("Second", "made") / "whole.txt"
    assert whole.read_text() == "12"


def test_second_run_is_cached_and_points_to_the_first_ones_outputs(tmp_path):
    first = run(tmp_path)
    second = run(tmp_path)
    assert [stage.state for stage in second.stages] == [CACHED, CACHED]
    assert second.output("Second", "made") == first.output("Second", "made")
    assert second.stages[0].summary == "one file"


def test_failed_node_is_named_and_later_runs_go_on_from_it(tmp_path):
    (tmp_path / "fail").touch()
    events = []
    with pytest.raises(StageError, match=r"Second failed .* told to fail"):
        run(tmp_path, events)
    assert events[-1].state == FAILED
    (tmp_path / "fail").unlink()
    assert [stage.state for stage in run(tmp_path).stages] == [CACHED, DONE]


@pytest.mark.fault
def test_killed_run_goes_on_and_leaves_nothing_half_written(tmp_path):
    (tmp_path / "hang").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "hanging").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    [killed] = [
        execution
        for execution in executions(tmp_path)
        if execution.last_known_state == metadata_store_pb2.Execution.RUNNING
    ]
    [half] = tmp_path.glob("root/Second/made/*/half.txt")
    assert half.parent.name == str(killed.id)

    # Its number begins like the killed one's.
    other = half.parent.with_name(f"{killed.id}0")
    other.mkdir()

    (tmp_path / "hang").unlink()
    again = run(tmp_path)
    assert [stage.state for stage in again.stages] == [CACHED, DONE]
    assert not half.exists()
    assert other.exists()
    assert not list(tmp_path.glob(f"root/*/.system/*/{killed.id}"))
    [whole] = tmp_path.glob("root/Second/made/*/whole.txt")
    assert whole.parent == again.output("Second", "made")
    states = {e.id: e.last_known_state for e in executions(tmp_path)}
    assert states[killed.id] == metadata_store_pb2.Execution.FAILED


def test_times_and_states_are_written(tmp_path):
    finished = run(tmp_path)
    finished.write(tmp_path / "stage_seconds.json")
    written = json.loads((tmp_path / "stage_seconds.json").read_text())
    assert list(written) == ["First", "Second"]
    assert written["First"]["state"] == DONE
    assert written["First"]["seconds"] == pytest.approx(
        finished.stage_seconds["First"], abs=1e-3
    )


def test_printed_lines_say_how_far_the_run_is(tmp_path, capfd):
    ReportingRunner(print_stage).run(tiny_pipeline.make_pipeline(tmp_path))
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["[", "1/2]", "First", "..."]
    assert lines[1].split()[:4] == ["[", "1/2]", "First", "done"]
    assert lines[1].endswith("one file")


def test_root_message_leaves_out_tracebacks():
    def chained():
        try:
            raise RuntimeError(
                "Traceback (most recent call last):\n  File x\n"
                "EpisodeError: column gone [while running 'Pack']"
            )
        except RuntimeError as error:
            raise ValueError("wrapped") from error

    with pytest.raises(ValueError, match="wrapped") as raised:
        chained()
    assert root_message(raised.value) == (
        "EpisodeError: column gone [while running 'Pack']"
    )


def test_refused_model_is_said_to_be_not_pushed():
    artifact = metadata_store_pb2.Artifact()
    artifact.custom_properties["pushed"].int_value = 0
    assert describe(artifact) == ["NOT pushed"]
    artifact.custom_properties["pushed"].int_value = 1
    artifact.custom_properties["pushed_version"].string_value = "3"
    assert describe(artifact) == ["pushed as 3"]
