"""What importing the client brings along; how long that takes follows."""

import inspect
import subprocess
import sys

import serving.client
from serving.client import AsyncRecommenderClient, RecommenderClient

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
