import threading
from concurrent import futures

import numpy as np
import pytest

from serving.errors import GraphError
from serving.model_server.batching import Batcher, BatchingConfig
from serving.model_server.tensor import Tensor
from serving.protos.tf_serving_pb2 import DT_FLOAT

CALLERS = 8


def floats(*shape, fill=0.0):
    return Tensor(DT_FLOAT, shape, np.full(shape, fill, "<f4").tobytes())


def values(tensor):
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)


class Graph:
    """Doubles its first input; runs when the gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.runs = []

    def __call__(self, inputs):
        self.entered.release()
        assert self.gate.wait(10)
        array = values(inputs[0])
        self.runs.append(array.shape)
        if (array < 0).any():
            raise GraphError("A row is negative.", 3)
        return [Tensor(DT_FLOAT, array.shape, (2 * array).tobytes())]


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def pool():
    with futures.ThreadPoolExecutor(CALLERS) as pool:
        yield pool


def run_together(graph, batcher, pool, requests):
    """Lets the first request run alone while the others queue up."""
    first = pool.submit(batcher.run, requests[0])
    assert graph.entered.acquire(timeout=10)
    others = [pool.submit(batcher.run, request) for request in requests[1:]]
    while len(batcher._queue) < len(others):
        assert not first.done()
    graph.gate.set()
    return [first, *others]


def make(graph, **config):
    config = {"parallel": 1, **config}
    return Batcher(graph, [True, False], BatchingConfig(**config))


def test_queued_requests_share_a_run_and_get_their_own_rows(graph, pool):
    requests = [[floats(n, 2, fill=n), floats(3)] for n in (1, 1, 2, 3)]
    for number, answer in enumerate(
        run_together(graph, make(graph), pool, requests)
    ):
        np.testing.assert_array_equal(
            values(answer.result()[0]), 2 * values(requests[number][0])
        )
    assert graph.runs == [(1, 2), (6, 2)]


def test_lone_request_does_not_wait(graph):
    graph.gate.set()
    batcher = make(graph, max_wait_seconds=60)
    assert values(batcher.run([floats(1, 2), floats(3)])[0]).shape == (1, 2)


def test_other_shapes_and_other_shared_inputs_run_apart(graph, pool):
    requests = [
        [floats(1, 2), floats(3)],
        [floats(1, 2), floats(3)],
        [floats(1, 4), floats(3)],
        [floats(1, 2), floats(3, fill=1)],
    ]
    for answer in run_together(graph, make(graph), pool, requests):
        answer.result()
    assert sorted(graph.runs) == [(1, 2), (1, 2), (1, 2), (1, 4)]


def test_run_has_no_more_rows_than_allowed(graph, pool):
    requests = [[floats(2, 1), floats(3)]] * 5
    batcher = make(graph, max_rows=4)
    for answer in run_together(graph, batcher, pool, requests):
        answer.result()
    assert graph.runs == [(2, 1), (4, 1), (4, 1)]


def test_bad_request_fails_alone(graph, pool):
    requests = [
        [floats(1, 1, fill=fill), floats(3)] for fill in (1, 2, -1, 4, 5)
    ]
    answers = run_together(graph, make(graph), pool, requests)
    with pytest.raises(GraphError, match="negative"):
        answers[2].result()
    good = [a.result()[0] for i, a in enumerate(answers) if i != 2]
    assert [float(values(tensor)[0, 0]) for tensor in good] == [2, 4, 8, 10]


def test_inputs_of_unequal_rows_are_the_graphs_business(graph):
    graph.gate.set()
    batcher = Batcher(graph, [True, True], BatchingConfig())
    batcher.run([floats(2, 1), floats(3, 1)])
    assert graph.runs == [(2, 1)]


def test_many_threads_get_what_they_asked_for(graph, pool):
    graph.gate.set()
    batcher = make(graph, parallel=2, max_rows=5, max_wait_seconds=1e-4)

    def ask(number):
        request = [floats(1 + number % 3, 1, fill=number), floats(3)]
        return values(batcher.run(request)[0])

    for number, answer in enumerate(pool.map(ask, range(400))):
        np.testing.assert_array_equal(
            answer, np.full((1 + number % 3, 1), 2 * number)
        )
    assert batcher._running == 0
