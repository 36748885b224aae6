import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.templates import RequestTemplates
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
    "sent",
    [
        {},
        {"tags": string_tensor(["a", "ä"], (1, 2))},
        {"segment": string_tensor(["x"], (1,)), "age": MISSING["age"]},
    ],
)
def test_rank_request_is_the_one_written_out(templates, sent):
    items = ["1", "ä", ""]
    expected = request(
        "rank", **{**MISSING, **sent}, item_id=string_tensor(items, (1, 3))
    )
    assert parse(templates.rank(WEIGHTS, sent, items)) == expected


@given(st.lists(st.text()))
def test_any_texts_become_the_string_tensor_of_them(texts):
    templates = RequestTemplates("shop", 7, MANIFEST)
    found = parse(templates.rank(WEIGHTS, {}, texts))
    assert found.inputs["item_id"] == string_tensor(texts, (1, len(texts)))


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
