"""Callers who have no business here reach neither handler nor store."""

import datetime
import hashlib

import grpc
import pytest
import trustme
import yaml

from serving.client import ClientTls, FeedbackEvent, RecommenderClient
from serving.ports import free_port
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.recommender_server import write_pair

pytestmark = pytest.mark.fault

ITEMS = ["000", "003"]


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def known(authority, tmp_path):
    """TLS of a client that the gateway knows."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    return ClientTls(
        ca, *write_pair(authority.issue_cert("web"), tmp_path, "web")
    )


@pytest.fixture
def secured(run_gateway, authority, known, tmp_path):
    entries = [
        {
            "name": name,
            "sha256": hashlib.sha256(b"secret").hexdigest(),
            "scopes": scopes,
            **more,
        }
        for name, scopes, more in (
            ("a", ["rank", "feedback"], {"users": "a:"}),
            ("old", ["admin"], {"expires": "2020-01-01T00:00:00Z"}),
            ("boss", ["admin"], {}),
        )
    ]
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(yaml.safe_dump({"tokens": entries}))
    certificate, key = write_pair(
        authority.issue_cert("127.0.0.1"), tmp_path, "gateway"
    )
    return run_gateway(
        f"--tls-certificate={certificate}",
        f"--tls-key={key}",
        f"--tls-client-ca={known.ca}",
        f"--tokens={tokens}",
        health_port=free_port(),
    )


def counters(gateway, known):
    with RecommenderClient(
        gateway.target, tls=known, token="boss.secret"
    ) as client:
        return client.get_status().counters


def answered(gateway, known):
    """Calls of Rank that reached their handler."""
    return sum(
        value
        for name, value in counters(gateway, known).items()
        if name.startswith("adaptower_answers")
    )


def refusal(target, user="a:1", seconds=PATIENT_SECONDS, **options):
    options.setdefault("plaintext_token", True)
    with (
        RecommenderClient(target, seconds, **options) as client,
        pytest.raises(grpc.RpcError) as refused,
    ):
        client.rank(user, ITEMS)
    return refused.value.code()


def test_strangers_get_a_defined_refusal_and_nothing_is_read(
    secured, authority, known, tmp_path
):
    # A handshake that fails looks to a client like a server that is away, for
    # which it waits.
    away = {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    stranger = write_pair(trustme.CA().issue_cert("web"), tmp_path, "stranger")
    yesterday = datetime.datetime.now(datetime.timezone.utc)
    yesterday -= datetime.timedelta(days=1)
    expired = write_pair(
        authority.issue_cert(
            "web",
            not_before=yesterday - datetime.timedelta(days=1),
            not_after=yesterday,
        ),
        tmp_path,
        "expired",
    )
    target = secured.target
    for tls in (None, ClientTls(known.ca)):
        assert refusal(target, seconds=1, tls=tls, token="a.secret") in away
    for pair in (stranger, expired):
        tls = ClientTls(known.ca, *pair)
        assert refusal(target, seconds=1, tls=tls, token="a.secret") in away
    for token in (None, "a.wrong", "nobody.secret", "old.secret", "a"):
        code = refusal(target, tls=known, token=token)
        assert code == grpc.StatusCode.UNAUTHENTICATED
    for user in ("b:1", "a", "A:1"):
        code = refusal(target, user, tls=known, token="a.secret")
        assert code == grpc.StatusCode.PERMISSION_DENIED
    assert answered(secured, known) == 0


def test_friends_are_served(secured, known):
    with RecommenderClient(
        secured.target, tls=known, token="a.secret"
    ) as client:
        client.submit_feedback("a:1", [FeedbackEvent("e", "003", 1.0)])
        assert client.rank("a:1", ITEMS).support_count == 1
        with pytest.raises(grpc.RpcError) as refused:
            client.delete_user("a:1")
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with RecommenderClient(
        secured.target, tls=known, token="boss.secret"
    ) as client:
        assert client.delete_user("a:1").records == 1
    found = counters(secured, known)
    assert found['adaptower_refusals_total{code="PERMISSION_DENIED"}'] == 1
