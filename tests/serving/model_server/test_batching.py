import numpy as np
import pytest

from serving.errors import GraphError
from serving.model_server.batching import Job, run_jobs
from serving.model_server.tensor import Tensor
from serving.protos.tf_serving_pb2 import DT_FLOAT, DT_STRING


def floats(*shape, fill=0.0):
    return Tensor(DT_FLOAT, shape, np.full(shape, fill, "<f4").tobytes())


def values(tensor):
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)


class Doubles:
    """Doubles its first input, of which no value may be negative."""

    def __init__(self, *batched):
        self.batched = batched
        self.shapes = []

    def run(self, inputs):
        array = values(inputs[0])
        self.shapes.append(array.shape)
        if (array < 0).any():
            raise GraphError("A row is negative.")
        return [Tensor(DT_FLOAT, array.shape, (2 * array).tobytes())]


@pytest.fixture
def signature():
    return Doubles(True, False)


def answers(signature, *requests, max_rows=64):
    jobs = [Job(signature, list(inputs)) for inputs in requests]
    run_jobs(jobs, max_rows)
    return [job.outcome for job in jobs]


def test_requests_share_a_run_and_get_their_own_rows(signature):
    requests = [(floats(n, 2, fill=n), floats(3)) for n in (1, 3, 2)]
    outcomes = answers(signature, *requests)
    for (rows, _), [answer] in zip(requests, outcomes, strict=True):
        np.testing.assert_array_equal(values(answer), 2 * values(rows))
    assert signature.shapes == [(6, 2)]


def test_single_request_is_not_copied(signature):
    request = (floats(2, 2), floats(3))
    seen = []
    signature.run = lambda inputs: seen.append(inputs) or [inputs[0]]
    answers(signature, request)
    assert seen[0][0] is request[0]


def test_other_shapes_run_apart(signature):
    answers(signature, *[(floats(1, n), floats(3)) for n in (2, 4, 2)])
    assert sorted(signature.shapes) == [(1, 4), (2, 2)]


@pytest.mark.parametrize(
    "other",
    [
        floats(3, fill=1),
        floats(1, 3),
        Tensor(DT_STRING, (1,), [b"text"]),
    ],
)
def test_other_values_that_are_no_rows_run_apart(signature, other):
    shared = (floats(1, 2), floats(3))
    answers(signature, shared, (floats(1, 2), other), shared)
    assert sorted(signature.shapes) == [(1, 2), (2, 2)]


def test_run_has_no_more_rows_than_allowed(signature):
    answers(signature, *[(floats(2, 1), floats(3))] * 5, max_rows=4)
    assert signature.shapes == [(4, 1), (4, 1), (2, 1)]


def test_large_request_runs_whole(signature):
    answers(signature, *[(floats(9, 1), floats(3))] * 2, max_rows=4)
    assert signature.shapes == [(9, 1), (9, 1)]


def test_bad_request_fails_alone(signature):
    good, bad = (floats(1, 1, fill=3), floats(3)), (floats(1, 1, fill=-1),) * 2
    outcomes = answers(signature, good, (bad[0], floats(3)), good)
    assert isinstance(outcomes[1], GraphError)
    assert [float(values(outcomes[i][0])[0, 0]) for i in (0, 2)] == [6, 6]


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_error_that_nobody_expects_is_the_outcome_of_its_own_request(
    signature, error
):
    run = signature.run

    def fail(inputs):
        if (values(inputs[0]) < 0).any():
            raise error("no")
        return run(inputs)

    signature.run = fail
    good, bad = [(floats(1, 1, fill=fill), floats(3)) for fill in (3, -1)]
    outcomes = answers(signature, good, bad, good)
    assert isinstance(outcomes[1], error)
    assert [float(values(outcomes[i][0])[0, 0]) for i in (0, 2)] == [6, 6]


def test_requests_that_find_no_room_together_run_alone(signature, monkeypatch):
    def fail(parts):
        raise MemoryError("no room")

    monkeypatch.setattr("serving.model_server.batching.concatenate", fail)
    request = (floats(1, 1, fill=3), floats(3))
    for (answer,) in answers(signature, request, request):
        assert float(values(answer)[0, 0]) == 6


def test_outputs_that_are_no_rows_are_not_divided(signature):
    signature.run = lambda inputs: [floats(1, 1)]
    outcomes = answers(signature, *[(floats(1, 1), floats(3))] * 2)
    assert [values(o[0]).shape for o in outcomes] == [(1, 1), (1, 1)]


def test_inputs_of_unequal_rows_are_the_graphs_business():
    signature = Doubles(True, True)
    answers(signature, *[(floats(2, 1), floats(3, 1))] * 2)
    assert signature.shapes == [(2, 1), (2, 1)]


def test_signatures_that_cannot_batch_run_alone():
    signature = Doubles(False)
    answers(signature, (floats(2),), (floats(2),))
    assert signature.shapes == [(2,), (2,)]
