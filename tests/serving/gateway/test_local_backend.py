"""A gateway that reaches the model server over a Unix socket."""

import sys
import time

import grpc
import numpy as np
import pytest

from serving.client import RecommenderClient
from serving.errors import LaunchError
from serving.launch import start_gateway, start_model_server
from serving.models.backend import ModelServer
from serving.ports import free_port
from serving.rpc.local_frames import LOCAL
from serving.security.tls import ClientTls
from serving.server_process import start_process
from tests.helpers.patience import PATIENT_SECONDS

ITEMS = ["001", "002", "003"]


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory):
    return tmp_path_factory.mktemp("s") / "s"


@pytest.fixture(scope="module")
def start_on_socket(models, socket_path, tmp_path_factory):
    """Starts a model server; it may not answer yet."""

    def start():
        port = free_port()
        return start_process(
            "model server",
            [
                *(sys.executable, "-m", "serving.model_server"),
                *(f"--port={port}", f"--local-socket={socket_path}"),
                *(f"--model={name}={path}" for name, path in models.items()),
            ],
            port,
            tmp_path_factory.mktemp("logs") / "log",
        )

    return start


@pytest.fixture(scope="module")
def client(models, socket_path, tmp_path_factory):
    # Without a model server yet: it is SERVING once there is one.
    with (
        start_gateway(
            f"{LOCAL}{socket_path}",
            models,
            log_path=tmp_path_factory.mktemp("logs") / "gateway.log",
            flags=[f"--backend-timeout-seconds={PATIENT_SECONDS}"],
        ) as gateway,
        RecommenderClient(gateway.target, PATIENT_SECONDS) as client,
    ):
        yield client


def test_ranks_outlive_a_killed_model_server(start_on_socket, request, oracles):
    first = start_on_socket()
    client = request.getfixturevalue("client")
    ranked = client.rank("new", ITEMS)
    np.testing.assert_allclose(
        ranked.scores, oracles[0].rank({}, ITEMS), atol=1e-5
    )
    first.process.kill()
    first.process.wait()
    # What was asked before can be scored without it; what was not, can't.
    kept = client.rank("new", ITEMS)
    np.testing.assert_array_equal(kept.scores, ranked.scores)
    with pytest.raises(grpc.RpcError) as refused:
        client.rank("new", ITEMS, {"age": 33.0})
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with start_on_socket():
        began = time.monotonic()
        while True:
            try:
                again = client.rank("new", ITEMS, {"age": 33.0})
                break
            except grpc.RpcError:
                assert time.monotonic() - began < PATIENT_SECONDS
                time.sleep(0.05)
    np.testing.assert_allclose(
        again.scores, oracles[0].rank({"age": 33.0}, ITEMS), atol=1e-5
    )


def test_tls_with_a_socket_is_refused():
    with pytest.raises(LaunchError, match="without TLS"):
        ModelServer(f"{LOCAL}/nowhere", 1.0, ClientTls())


def test_socket_in_use_ends_the_second_model_server(models, tmp_path_factory):
    with start_model_server(
        models, log_path=tmp_path_factory.mktemp("logs") / "log"
    ) as server:
        port = free_port()
        log_path = tmp_path_factory.mktemp("logs") / "log"
        second = start_process(
            "model server",
            [
                *(sys.executable, "-m", "serving.model_server"),
                *(f"--port={port}", f"--local-socket={server.local_socket}"),
                *(f"--model={name}={path}" for name, path in models.items()),
            ],
            port,
            log_path,
        )
        assert second.process.wait(PATIENT_SECONDS) == 1
        assert "already" in log_path.read_text()
    assert not server.local_socket.parent.exists()
