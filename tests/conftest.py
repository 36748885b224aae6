"""Settings of all tests."""

import hypothesis

# A busy machine is no defect: speed is measured in benchmarks/.
hypothesis.settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("unhurried")
