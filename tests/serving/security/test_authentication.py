"""Tokens over a real channel: each bad one has its status and words."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.authentication import Authentication
from serving.security.tokens import TokenFile
from tests.serving.security.conftest import SECRETS


@pytest.fixture
def server(serve, tokens_path):
    return serve([Authentication(TokenFile(tokens_path))])


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def bearer(name):
    return (("authorization", f"Bearer {name}.{SECRETS[name]}"),)


def rank(channel, metadata, user_id="u"):
    return pb_grpc.RecommenderStub(channel).Rank(
        pb.RankRequest(user_id=user_id), metadata=metadata, timeout=60
    )


def test_token_with_the_scope_is_let_in(channel):
    assert rank(channel, bearer("web")) == pb.RankResponse()


def test_scheme_is_not_case_sensitive(channel):
    token = f"bearer web.{SECRETS['web']}"
    assert rank(channel, (("authorization", token),))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ((), "asks for a token"),
        ((("authorization", ""),), "not of the form"),
        ((("authorization", "Bearer"),), "not of the form"),
        ((("authorization", "Bearer nodot"),), "not of the form"),
        ((("authorization", "Bearer .secret"),), "not of the form"),
        ((("authorization", "Bearer we b.x"),), "not of the form"),
        ((("authorization", f"Basic web.{SECRETS['web']}"),), "not of the"),
        ((("authorization", "Bearer web.wrong"),), "not known"),
        ((("authorization", "Bearer web."),), "not known"),
        ((("authorization", f"Bearer nobody.{SECRETS['web']}"),), "not known"),
        ((("authorization", f"Bearer web.{SECRETS['boss']}"),), "not known"),
        ((*bearer("web"), *bearer("boss")), "send one header"),
        (bearer("old"), "'old' has expired"),
    ],
)
def test_bad_token_is_unauthenticated(server, channel, metadata, words):
    with pytest.raises(grpc.RpcError) as refused:
        rank(channel, metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert words in refused.value.details()
    assert server.service.calls == 0


def test_refusal_never_repeats_the_secret(channel):
    for secret in ("hunter2", SECRETS["web"] + "x"):
        with pytest.raises(grpc.RpcError) as refused:
            rank(channel, (("authorization", f"Bearer web.{secret}"),))
        assert secret not in refused.value.details()


def test_scope_that_the_token_lacks_is_denied(server, channel):
    with pytest.raises(grpc.RpcError) as refused:
        pb_grpc.RecommenderStub(channel).DeleteUser(
            pb.DeleteUserRequest(user_id="u"), metadata=bearer("web")
        )
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "'user:delete', it has feedback, rank" in refused.value.details()
    assert server.service.calls == 0


def test_admin_may_call_everything(channel):
    pb_grpc.RecommenderStub(channel).DeleteUser(
        pb.DeleteUserRequest(user_id="u"), metadata=bearer("boss")
    )


def test_user_of_somebody_else_is_denied(channel):
    rank(channel, bearer("shop-a"), "shop-a:7")
    for user_id in ("shop-b:7", "shop-", "", "Shop-a:7"):
        with pytest.raises(grpc.RpcError) as refused:
            rank(channel, bearer("shop-a"), user_id)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "'shop-a:'" in refused.value.details()


def test_one_callers_rights_are_not_anothers(channel):
    rank(channel, bearer("boss"), "shop-b:7")
    with pytest.raises(grpc.RpcError):
        rank(channel, ())
    with pytest.raises(grpc.RpcError) as refused:
        rank(channel, bearer("shop-a"), "shop-b:7")
    # It is known whose call it is.
    assert "The token 'shop-a' may" in refused.value.details()
    rank(channel, bearer("web"), "shop-b:7")


def test_health_needs_no_token(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest()
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/adaptower.v1.Recommender/AddedTomorrow",
        "/grpc.health.v1.HealthAndMore/Check",
    ],
)
def test_method_without_a_rule_is_for_admin_only(channel, method):
    call = channel.unary_unary(method)
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=bearer("web"))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=bearer("boss"))
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
