import queue
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.gateway.service import SERVICE_NAME
from serving.store import MemoryStore
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.patience import wait_until

Status = health_pb2.HealthCheckResponse


@pytest.fixture
def gateway(tmp_path):
    with OracleGateway(OracleBackend({}), MemoryStore(), tmp_path) as gateway:
        yield gateway


@pytest.fixture
def stub(gateway):
    return health_pb2_grpc.HealthStub(gateway.channel)


class Watcher:
    """Collects what a Watch tells."""

    def __init__(self, stub, service):
        self.told = queue.Queue()
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self):
        try:
            for answer in self._call:
                self.told.put(answer.status)
            self.told.put("end")
        except grpc.RpcError as error:
            self.told.put(error.code())

    def next(self):
        return self.told.get(timeout=60)

    def leave(self):
        self._call.cancel()
        self._thread.join()


async def call(function):
    function()


def check(stub, service=""):
    return stub.Check(health_pb2.HealthCheckRequest(service=service)).status


def test_status_follows_the_gateway(gateway, stub):
    assert check(stub) == check(stub, SERVICE_NAME) == Status.NOT_SERVING
    gateway.run(call(gateway.health.serve))
    assert check(stub) == check(stub, SERVICE_NAME) == Status.SERVING
    gateway.run(call(gateway.health.shut_down))
    gateway.run(call(gateway.health.serve))
    assert check(stub) == Status.NOT_SERVING


def test_unknown_service_is_not_found_and_watched_as_unknown(stub):
    with pytest.raises(grpc.RpcError) as error:
        check(stub, "nobody")
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    assert SERVICE_NAME in error.value.details()
    watcher = Watcher(stub, "nobody")
    assert watcher.next() == Status.SERVICE_UNKNOWN
    watcher.leave()


@pytest.mark.parametrize("service", ["", SERVICE_NAME])
def test_others_are_told_of_a_drain_after_one_watcher_left(
    gateway, stub, service
):
    """The library's servicer forgets them: grpc/grpc#43403."""
    watchers = [Watcher(stub, service) for _ in range(3)]
    assert [w.next() for w in watchers] == [Status.NOT_SERVING] * 3
    watchers.pop(1).leave()
    gateway.run(call(gateway.health.serve))
    assert [w.next() for w in watchers] == [Status.SERVING] * 2
    gateway.run(call(gateway.health.shut_down))
    assert [w.next() for w in watchers] == [Status.NOT_SERVING] * 2
    # A drain waits for open streams, so they end.
    assert [w.next() for w in watchers] == ["end"] * 2


def test_watchers_beyond_the_most_are_refused_until_one_leaves(
    gateway, stub, monkeypatch
):
    monkeypatch.setattr("serving.gateway.health.MAX_WATCHERS", 2)
    watchers = [Watcher(stub, "") for _ in range(2)]
    assert [watcher.next() for watcher in watchers] == [Status.NOT_SERVING] * 2
    refused = Watcher(stub, "")
    assert refused.next() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert check(stub) == Status.NOT_SERVING
    watchers[0].leave()
    wait_until(lambda: gateway.health._watchers == 1)
    late = Watcher(stub, "")
    assert late.next() == Status.NOT_SERVING
    for watcher in (watchers[1], refused, late):
        watcher.leave()
