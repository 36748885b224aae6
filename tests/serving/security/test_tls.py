"""Handshakes with real certificates, good ones and bad ones."""

import dataclasses
import datetime
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
import trustme

from serving.errors import LaunchError
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.tls import (
    ClientTls,
    ServerTls,
    channel_credentials,
    server_credentials,
)
from tests.helpers.recommender_server import write_pair

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "deploy.md"


@pytest.fixture
def mutual_tls(server_tls, ca_file):
    return dataclasses.replace(server_tls, client_ca=ca_file)


def call(target, tls):
    """Ranks over a connection of its own; one try."""
    channel = (
        grpc.insecure_channel(target)
        if tls is None
        else grpc.secure_channel(target, channel_credentials(tls))
    )
    with channel:
        return pb_grpc.RecommenderStub(channel).Rank(
            pb.RankRequest(user_id="u"), timeout=60
        )


def assert_refused(server, tls):
    with pytest.raises(grpc.RpcError) as refused:
        call(server.target, tls)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.service.calls == 0


def test_client_that_knows_the_authority_connects(serve, server_tls, ca_file):
    server = serve(tls=server_tls)
    assert call(server.target, ClientTls(ca_file))


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_certificate_made_as_the_guide_says_is_known_to_clients(
    serve, tmp_path
):
    text = GUIDE.read_text(encoding="utf-8")
    (command,) = re.findall(r"^openssl req(?:.*\\\n)*.*$", text, re.MULTILINE)
    files = tmp_path / "secrets"
    files.mkdir()
    subprocess.run(
        command.replace("gateway.example", "localhost"),
        shell=True,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    certificate, key = files / "gateway.pem", files / "gateway.key"
    server = serve(tls=ServerTls(certificate, key))
    call(server.target, ClientTls(certificate))


def test_plaintext_to_the_tls_port_is_refused(serve, server_tls):
    assert_refused(serve(tls=server_tls), None)


def test_tls_to_a_plaintext_port_is_refused(serve, ca_file):
    assert_refused(serve(), ClientTls(ca_file))


def test_server_of_an_unknown_authority_is_refused(serve, server_tls, tmp_path):
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    assert_refused(serve(tls=server_tls), ClientTls(stranger))


def test_server_of_another_name_is_refused(serve, authority, ca_file, tmp_path):
    pair = write_pair(
        authority.issue_cert("elsewhere.example"), tmp_path, "other"
    )
    assert_refused(serve(tls=ServerTls(*pair)), ClientTls(ca_file))


def test_client_with_a_certificate_connects(
    serve, mutual_tls, authority, ca_file, tmp_path
):
    pair = write_pair(authority.issue_cert("web"), tmp_path, "client")
    server = serve(tls=mutual_tls)
    assert call(server.target, ClientTls(ca_file, *pair))


def test_client_without_a_certificate_is_refused(serve, mutual_tls, ca_file):
    assert_refused(serve(tls=mutual_tls), ClientTls(ca_file))


def test_client_with_an_expired_certificate_is_refused(
    serve, mutual_tls, authority, ca_file, tmp_path
):
    now = datetime.datetime.now(datetime.timezone.utc)
    expired = authority.issue_cert(
        "web",
        not_before=now - datetime.timedelta(days=2),
        not_after=now - datetime.timedelta(days=1),
    )
    pair = write_pair(expired, tmp_path, "client")
    assert_refused(serve(tls=mutual_tls), ClientTls(ca_file, *pair))


def test_client_of_another_authority_is_refused(
    serve, mutual_tls, ca_file, tmp_path
):
    pair = write_pair(trustme.CA().issue_cert("web"), tmp_path, "client")
    assert_refused(serve(tls=mutual_tls), ClientTls(ca_file, *pair))


def test_renewed_certificate_is_taken_up_by_the_next_handshake(
    serve, authority, server_tls, ca_file, tmp_path
):
    server = serve(tls=server_tls)
    call(server.target, ClientTls(ca_file))
    successor = trustme.CA()
    # Certificate first: for a moment they do not belong together.
    certificate, key = write_pair(
        successor.issue_cert("localhost"), tmp_path, "new"
    )
    certificate.replace(server_tls.certificate)
    call(server.target, ClientTls(ca_file))
    key.replace(server_tls.key)
    new_ca = tmp_path / "new_ca.pem"
    successor.cert_pem.write_to_path(str(new_ca))
    call(server.target, ClientTls(new_ca))
    with pytest.raises(grpc.RpcError):
        call(server.target, ClientTls(ca_file))


def test_key_of_another_certificate_is_refused_at_the_start(
    server_tls, authority, tmp_path
):
    _, key = write_pair(authority.issue_cert("localhost"), tmp_path, "other")
    with pytest.raises(LaunchError, match="made for each other"):
        server_credentials(dataclasses.replace(server_tls, key=key))


def test_missing_file_is_refused_at_the_start(server_tls, tmp_path):
    gone = dataclasses.replace(server_tls, certificate=tmp_path / "gone.pem")
    with pytest.raises(LaunchError, match=r"gone\.pem"):
        server_credentials(gone)


def test_file_that_is_no_pem_is_refused(server_tls, tmp_path):
    der = tmp_path / "ca.der"
    der.write_bytes(b"\x30\x82")
    with pytest.raises(LaunchError, match="not a PEM file"):
        server_credentials(dataclasses.replace(server_tls, client_ca=der))


def test_client_certificate_without_its_key_is_refused(server_tls):
    with pytest.raises(LaunchError, match="both or none"):
        channel_credentials(ClientTls(certificate=server_tls.certificate))


def test_authorities_without_a_certificate_are_refused_by_name(server_tls):
    key = server_tls.key
    words = f"{key} holds no certificates of authorities"
    with pytest.raises(LaunchError, match=words):
        server_credentials(dataclasses.replace(server_tls, client_ca=key))
    with pytest.raises(LaunchError, match=words):
        channel_credentials(ClientTls(key))


def test_authorities_may_come_with_comments_in_any_language(
    server_tls, ca_file
):
    ca_file.write_text("# Főtanúsítvány\n" + ca_file.read_text())
    tls = dataclasses.replace(server_tls, client_ca=ca_file)
    assert server_credentials(tls)
