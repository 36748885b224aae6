"""What importing the client brings along; how long that takes follows."""

import inspect
import subprocess
import sys

import serving.client
from serving.client import AsyncRecommenderClient, RecommenderClient
from serving.store import MemoryStore
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.toy_model import ToyOracle

# Each alone takes from a tenth of a second to several seconds.
HEAVY = {
    "apache_beam",
    "cryptography",
    "google.api",
    "keras",
    "lmdb",
    "numpy",
    "opentelemetry",
    "pandas",
    "prometheus_client",
    "redis",
    "tensorflow",
    "tf_keras",
    "tfx",
    "yaml",
}


# All that `docs/gateway.md` says to install for a client, with what grpcio
# needs itself, and nothing else: what is not in here can't be imported.
ALONE = """
import sys

class Missing:
    allowed = {
        "grpc", "google", "google.protobuf", "google._upb",
        "numpy", "typing_extensions", "serving",
    }

    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        of_google = f"google.{rest.partition('.')[0]}" if rest else top
        named = of_google if top == "google" else top
        if named not in self.allowed | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
EVERY_CALL = """
import asyncio
from serving.client import (
    AsyncRecommenderClient, ClientTls, FeedbackEvent, GatewayError,
    RecommenderClient,
)

target = sys.argv[1]
with RecommenderClient(target, token="a.b") as client:
    print(len(client.rank("u", ["000", "003"], {"age": 30.0}).scores))
    print(len(client.recommend("u", 2).item_ids))
    event = FeedbackEvent("e", "000", 1.0)
    print(client.submit_feedback("u", [event]).accepted)
    print(client.get_user("u").found)
    print(client.delete_user("u").events)
    print(client.get_status().default_model)
    try:
        client.rank("u", [])
    except GatewayError as error:
        print(error.code().name)

async def rank():
    async with AsyncRecommenderClient(target) as client:
        return await client.rank("u", ["000", "003"])

print(len(asyncio.run(rank()).scores))
"""


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    return {
        *subprocess.check_output(
            [sys.executable, "-c", program], text=True
        ).split()
    }


def test_import_brings_nothing_heavy():
    loaded = modules_after("import serving.client")
    assert "grpc" in loaded
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("serving.")}
    assert not [
        name
        for name in ours
        if not name.startswith(
            (
                "serving.client",
                "serving.errors",
                "serving.protos",
                "serving.security",
            )
        )
    ]


def test_client_works_with_nothing_installed_but_what_the_guide_says(tmp_path):
    backend = OracleBackend({1: ToyOracle.from_seed(1)})
    with OracleGateway(backend, MemoryStore(), tmp_path) as gateway:
        told = subprocess.run(
            [sys.executable, "-c", ALONE + EVERY_CALL, gateway.target],
            capture_output=True,
            text=True,
        )
    assert told.stdout.split() == [
        *("2", "2", "1", "True", "1", "model0", "INVALID_ARGUMENT", "2")
    ], told.stderr


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def methods(client: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(value)
            for name, value in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(RecommenderClient) == methods(AsyncRecommenderClient)
    for name in methods(AsyncRecommenderClient).keys() - {"with_options"}:
        assert inspect.iscoroutinefunction(
            getattr(AsyncRecommenderClient, name)
        )


def test_all_that_is_exported_is_there():
    for name in serving.client.__all__:
        assert hasattr(serving.client, name)
