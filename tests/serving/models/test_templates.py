import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.models.templates import RankRow, RequestTemplates
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor, encode_tensor, string_tensor
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyParameters

WEIGHTS = np.linspace(-1, 1, NUM_ADAPTIVE).astype(np.float32)


MANIFEST = ToyParameters.from_seed(1).manifest()


@pytest.fixture(scope="module")
def templates():
    return RequestTemplates("shop", 7, MANIFEST)


def parse(data):
    """Reads a request; touches its map, which is parsed only then."""
    found = pb.PredictRequest.FromString(data)
    assert found.inputs
    return found


def request(signature, **inputs):
    """The same request, written out."""
    expected = pb.PredictRequest()
    expected.model_spec.name = "shop"
    expected.model_spec.version.value = 7
    expected.model_spec.signature_name = signature
    inputs["adaptive_weights"] = encode_tensor(WEIGHTS[np.newaxis])
    for name, tensor in inputs.items():
        expected.inputs[name].CopyFrom(tensor)
    return expected


MISSING = {
    "segment": string_tensor([""], (1,)),
    "tags": string_tensor([""], (1, 1)),
    "age": encode_tensor(np.array([np.nan], np.float32)),
}


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [
        ({}, {}),
        ({"tags": ["a", "ä"]}, {"tags": string_tensor(["a", "ä"], (1, 2))}),
        (
            {"segment": "x", "age": 30.5},
            {
                "segment": string_tensor(["x"], (1,)),
                "age": encode_tensor(np.array([30.5], np.float32)),
            },
        ),
    ],
)
def test_rank_request_is_the_one_written_out(templates, sent, inputs):
    items = ["1", "ä", ""]
    expected = request(
        "rank", **{**MISSING, **inputs}, item_id=string_tensor(items, (1, 3))
    )
    assert parse(templates.rank([RankRow(WEIGHTS, sent, items)])) == expected


def test_rows_of_a_batch_are_padded(templates):
    rows = [
        RankRow(WEIGHTS, {"tags": ["a", "b"], "age": 1.0}, ["1"]),
        RankRow(WEIGHTS + 1, {"segment": "x"}, ["2", "3", "4"]),
    ]
    found = parse(templates.rank(rows)).inputs
    values = {name: decode_tensor(tensor) for name, tensor in found.items()}
    np.testing.assert_array_equal(
        values["adaptive_weights"], [WEIGHTS, WEIGHTS + 1]
    )
    np.testing.assert_array_equal(values["segment"], [b"", b"x"])
    np.testing.assert_array_equal(values["tags"], [[b"a", b"b"], [b"", b""]])
    np.testing.assert_array_equal(values["age"], [1.0, np.nan])
    np.testing.assert_array_equal(
        values["item_id"], [[b"1", b"", b""], [b"2", b"3", b"4"]]
    )


TEXTS = st.lists(st.text(), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_any_texts_become_the_string_tensor_of_them(rows):
    templates = RequestTemplates("shop", 7, MANIFEST)
    found = parse(
        templates.rank([RankRow(WEIGHTS, {"tags": r}, r) for r in rows])
    )
    width = max(map(len, rows))
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    expected = string_tensor(
        [text for row in padded for text in row], (len(rows), width)
    )
    assert found.inputs["item_id"] == expected
    assert found.inputs["tags"] == expected


@pytest.mark.parametrize("excluded", [[], ["1", "2"]])
def test_recommend_request_is_the_one_written_out(templates, excluded):
    expected = request(
        "recommend",
        **MISSING,
        k=encode_tensor(np.array(5, np.int32)),
        exclude_item_id=string_tensor(
            excluded or [""], (1, max(1, len(excluded)))
        ),
    )
    found = parse(templates.recommend(WEIGHTS, {}, 5, excluded))
    assert found == expected
    assert decode_tensor(found.inputs["k"]) == 5
