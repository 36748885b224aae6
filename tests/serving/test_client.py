import subprocess
import sys

import pytest

from serving.client import encode_feature
from serving.protos import recommender_pb2 as pb


def test_import_is_quick_and_free_of_tensorflow():
    program = (
        "import sys, time\n"
        "start = time.process_time()\n"
        "import serving.client\n"
        "seconds = time.process_time() - start\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(seconds)\n"
    )
    seconds = min(
        float(subprocess.check_output([sys.executable, "-c", program]))
        for _ in range(3)
    )
    assert seconds < 0.3


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ("student", "strings", ["student"]),
        (["drama", "war"], "strings", ["drama", "war"]),
        (("drama",), "strings", ["drama"]),
        (30, "numbers", [30.0]),
        (0.5, "numbers", [0.5]),
    ],
)
def test_feature_is_encoded_by_its_type(value, kind, values):
    encoded = encode_feature(value)
    assert encoded.WhichOneof("kind") == kind
    assert list(getattr(encoded, kind).values) == values


def test_missing_feature_has_no_kind():
    assert encode_feature(None) == pb.FeatureValues()
