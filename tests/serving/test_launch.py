import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.errors import LaunchError
from serving.launch import start_gateway, start_model_server
from serving.ports import free_port
from serving.tf_serving_command import tf_serving_config


def test_server_that_ends_at_once_is_an_error_with_its_log(tmp_path):
    with pytest.raises(LaunchError, match="NAME=BASE_PATH") as failed:
        start_gateway("localhost:1", {"": tmp_path}, log_path=tmp_path / "log")
    assert "ended with status 2" in str(failed.value)
    assert str(tmp_path / "log") in str(failed.value)


def test_gateway_without_model_server_is_not_ready_in_time(tmp_path):
    for seconds in (2, 8, 32):
        with pytest.raises(LaunchError, match=f"within {seconds} s") as late:
            start_gateway(
                f"127.0.0.1:{free_port()}",
                {"adaptower": tmp_path},
                log_path=tmp_path / "log",
                flags=["--backend-timeout-seconds=0.5"],
                ready_seconds=seconds,
            )
        if "for model 'adaptower'" in str(late.value):
            return
        # So busy a machine that the gateway had not even begun.
    pytest.fail(str(late.value))


def test_taken_port_is_a_clear_error(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LaunchError, match="somebody does already"):
            start_gateway(
                "127.0.0.1:1",
                {"adaptower": tmp_path},
                port=taken.getsockname()[1],
                ready_seconds=10,
            )


def test_installed_tf_serving_is_preferred(tmp_path, monkeypatch):
    """A stand-in on PATH shows how the real one would be started."""
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text('#!/bin/sh\necho "flags: $@"\nexit 3\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
    models = {"adaptower": tmp_path / "a", "joint": tmp_path / "j"}
    log_path = tmp_path / "server.log"
    with pytest.raises(LaunchError, match="status 3"):
        start_model_server(models, port=8500, log_path=log_path)
    flags = log_path.read_text().split()
    config = tmp_path / "server.models.config"
    assert "--port=8500" in flags
    assert f"--model_config_file={config}" in flags
    assert "--enable_grpc_healthcheck_service=true" in flags
    assert config.read_text() == tf_serving_config(models)


def test_tf_serving_config_is_what_tf_serving_parses(tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    models = {"adaptower": tmp_path / "a", "joint": tmp_path / "j"}
    config = text_format.Parse(
        tf_serving_config(models), model_server_config_pb2.ModelServerConfig()
    )
    assert {
        c.name: Path(c.base_path) for c in config.model_config_list.config
    } == models
    for entry in config.model_config_list.config:
        assert entry.model_version_policy.latest.num_versions == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_children_end_with_a_killed_parent(tmp_path):
    """The model server waits for a model; its parent is killed meanwhile."""
    program = (
        "import shutil, sys\n"
        "from pathlib import Path\n"
        "from serving.launch import start_model_server\n"
        "shutil.which = lambda name: None\n"
        "root = Path(sys.argv[1])\n"
        "start_model_server({'m': root}, log_path=root / 'log')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 30
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = Path(f"/proc/{found[0]}")
    # First it asks to end with its parent, then it becomes the server.
    while "prctl" in (child / "cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    state = child / "stat"
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
