"""`adaptower serve` as a person runs it: real processes, Ctrl-C at the end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.ports import free_port
from tests.helpers.toy_model import ITEM_IDS, ToyOracle, export_toy

pytestmark = pytest.mark.e2e

CANDIDATES = list(ITEM_IDS[:3])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "toy"


@pytest.fixture
def oracle(run_folder: Path) -> ToyOracle:
    return export_toy(run_folder / "serving" / "adaptower")


@pytest.fixture
def served(
    oracle: ToyOracle, run_folder: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the target of its gateway."""
    port, model_server_port = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "pipeline.cli", "serve"),
        *("--run", str(run_folder), "--port", str(port)),
        *("--model-server-port", str(model_server_port)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        else:
            pytest.fail("serve ended before it served")
        yield process, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def children_of(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(child) for child in path.read_text().split()]


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return not re.search(r"State:\s+Z", status)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_learns_and_ends_when_told(
    ending: signal.Signals,
    served: tuple[subprocess.Popen[str], str],
    oracle: ToyOracle,
    run_folder: Path,
) -> None:
    process, target = served
    features = {"segment": "artist", "age": 33.0}
    with RecommenderClient(target) as client:
        cold = client.rank("u", CANDIDATES, features)
        expected = oracle.rank(features, CANDIDATES)
        assert list(cold.scores) == pytest.approx(list(expected), abs=1e-5)
        event = FeedbackEvent("1", CANDIDATES[0], 1.0, 1_700_000_000)
        client.submit_feedback("u", [event], features)
        warm = client.rank("u", CANDIDATES, features)
        assert warm.scores[0] > cold.scores[0]
    children = children_of(process)
    assert len(children) == 2
    process.send_signal(ending)
    assert process.wait(30) == 0
    assert not any(map(is_running, children))
    assert any((run_folder / "store").iterdir())


def test_serve_ends_with_an_error_when_a_server_dies(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, _ = served
    os.kill(children_of(process)[0], signal.SIGKILL)
    assert process.wait(30) == 1
    assert process.stdout
    assert "ended; its log is" in process.stdout.read()


def test_servers_end_when_serve_is_killed(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, _ = served
    children = children_of(process)
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 30
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))
