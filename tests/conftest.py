"""Settings of all tests."""

import hypothesis
import pytest

# A busy machine is no defect: speed is measured in benchmarks/.
hypothesis.settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("unhurried")

# Files that keep a process busy for minutes. They are begun first: one that
# comes last is waited for while the other processes have nothing to do.
_LONG = ("tests/e2e/", "tests/benchmarks/quality/test_bench.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))
