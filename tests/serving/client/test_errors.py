"""What a caller learns of a call that fails."""

import asyncio
import pickle

import grpc
import pytest

from serving import client as ours
from serving.client import (
    AsyncRecommenderClient,
    GatewayError,
    RecommenderClient,
)
from serving.client.errors import told_as_ours
from serving.protos import recommender_pb2_grpc as pb_grpc
from tests.helpers.recommender_server import RunningServer

KINDS = {
    "RequestRefusedError": (
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
    ),
    "AccessRefusedError": ("UNAUTHENTICATED", "PERMISSION_DENIED"),
    "TryLaterError": ("RESOURCE_EXHAUSTED",),
    "UnavailableError": ("UNAVAILABLE", "CANCELLED", "ABORTED"),
    "TimedOutError": ("DEADLINE_EXCEEDED",),
    "GatewayError": (
        "INTERNAL",
        "UNKNOWN",
        "DATA_LOSS",
        "OUT_OF_RANGE",
        "ALREADY_EXISTS",
    ),
}
STATUSES = [
    (grpc.StatusCode[name], getattr(ours, kind))
    for kind, names in KINDS.items()
    for name in names
]
DETAILS = "the model says no"


class Refusing(pb_grpc.RecommenderServicer):
    """Answers each Rank with one status."""

    status = grpc.StatusCode.OK

    async def Rank(self, request, context):
        await context.abort(self.status, DETAILS, (("x-request-id", "r-7"),))


@pytest.fixture(scope="module")
def server():
    with RunningServer(Refusing) as server:
        yield server


def rank(target):
    with RecommenderClient(target) as client:
        client.rank("u", ["7"])


def rank_async(target):
    async def run():
        async with AsyncRecommenderClient(target) as client:
            await client.rank("u", ["7"])

    asyncio.run(run())


def test_every_status_but_ok_has_a_kind():
    assert {status for status, _ in STATUSES} == {*grpc.StatusCode} - {
        grpc.StatusCode.OK
    }


@pytest.mark.parametrize("call", [rank, rank_async])
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_error_names_method_status_request_and_what_to_do(
    server, call, status, kind
):
    server.service.status = status
    with pytest.raises(grpc.RpcError) as failed:
        call(server.target)
    error = failed.value
    assert type(error) is kind
    assert (error.method, error.code()) == ("Rank", status)
    assert str(error) == (
        f"Rank: {status.name}: {DETAILS} [r-7]\n{kind.advice}"
    )
    # As gRPC's own error tells it, so that nobody's code needs to change.
    assert error.details() == error.__cause__.details() == DETAILS
    assert error.trailing_metadata() == [("x-request-id", "r-7")]


def test_kinds_say_different_things():
    kinds = {kind for _, kind in STATUSES}
    assert len({kind.advice for kind in kinds}) == len(kinds)
    assert all(issubclass(kind, GatewayError) for kind in kinds)


def test_error_without_a_request_id_is_told_as_well(server):
    with (
        RecommenderClient(server.target) as client,
        pytest.raises(ours.RequestRefusedError) as failed,
    ):
        # Nobody has written it.
        client.get_user("u")
    assert str(failed.value).startswith("GetUser: UNIMPLEMENTED: ")
    assert "[" not in str(failed.value)


def test_error_travels_between_processes(server):
    server.service.status = grpc.StatusCode.NOT_FOUND
    with pytest.raises(GatewayError) as failed:
        rank(server.target)
    copy = pickle.loads(pickle.dumps(failed.value))
    assert type(copy) is type(failed.value)
    assert str(copy) == str(failed.value)


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError), told_as_ours("Rank"):
        raise KeyError
