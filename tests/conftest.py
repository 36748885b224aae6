"""Settings of all tests."""

import hypothesis

# A busy machine is no defect: speed is measured in benchmarks/.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
