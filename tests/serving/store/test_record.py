import dataclasses

import numpy as np
import pytest

from serving.store import UserKey, UserRecord, fingerprint_digest


@pytest.fixture
def record():
    return UserRecord(
        key=UserKey("m", "u"),
        fingerprint=fingerprint_digest("mine"),
        sequence=1,
        support_count=1,
        weights=np.zeros(3, np.float32),
    )


def test_as_many_versions_are_kept_as_may_be_and_the_oldest_goes(record):
    for name in "ghijk":
        fingerprint = fingerprint_digest(name)
        record = dataclasses.replace(
            record,
            fingerprint=fingerprint,
            earlier=record.earlier_than(fingerprint),
        )
    assert [v.fingerprint for v in record.versions] == [
        fingerprint_digest(name) for name in "kjih"
    ]


def test_weights_fit_only_their_own_fingerprint_and_size(record):
    assert record.weights_for("mine", 3) is not None
    for fingerprint, size in (("other", 3), ("mine", 4)):
        assert record.weights_for(fingerprint, size) is None
