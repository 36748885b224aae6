"""A store behind TLS, by the address that docs/deploy.md gives."""

import pytest
import trustme

from serving.errors import StoreError
from serving.ports import free_port
from serving.store.config import StoreConfig, open_store
from serving.store.record import UserKey
from tests.helpers.recommender_server import write_pair
from tests.helpers.redis_server import RunningRedis
from tests.helpers.tls_proxy import TlsProxy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(authority, folder):
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def own_pair(authority, folder):
    return write_pair(authority.issue_cert("gateway"), folder, "gateway")


@pytest.fixture(scope="module")
def address(authority, ca, folder):
    """Of a server that asks for a certificate."""
    plain_port = free_port()
    server = RunningRedis(port=plain_port)
    pair = write_pair(authority.issue_cert("localhost"), folder, "server")
    proxy = TlsProxy(pair, ca, plain_port)
    yield f"rediss://localhost:{proxy.port}/0"
    proxy.close()
    server.close()


def test_gateway_with_a_certificate_reaches_the_store(address, ca, own_pair):
    certificate, key = own_pair
    options = f"ssl_ca_certs={ca}&ssl_certfile={certificate}&ssl_keyfile={key}"
    with open_store(StoreConfig(f"{address}?{options}")) as store:
        assert store.get(UserKey("m", "u")) is None


def test_gateway_without_one_is_refused(address, ca):
    with pytest.raises(StoreError):
        open_store(StoreConfig(f"{address}?ssl_ca_certs={ca}"))


def test_server_of_an_unknown_authority_is_refused(address, own_pair, folder):
    stranger = folder / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    certificate, key = own_pair
    options = (
        f"ssl_ca_certs={stranger}&ssl_certfile={certificate}&ssl_keyfile={key}"
    )
    with pytest.raises(StoreError, match=r"(?i)certificate"):
        open_store(StoreConfig(f"{address}?{options}"))
