"""What goes over the wire, and what comes out of it."""

import pytest

from serving.client import FeedbackEvent, calls, encode_feature
from serving.client.user_data import StoredWeights
from serving.protos import recommender_pb2 as pb


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


def test_every_method_of_the_gateway_has_a_call():
    made = {
        calls.rank("u", ["1"], None, None).method,
        calls.recommend("u", 1, None, None, (), False, 0.0, None).method,
        calls.submit_feedback("u", [], None, None).method,
        calls.get_user("u").method,
        calls.delete_user("u").method,
        calls.get_status().method,
    }
    service = pb.DESCRIPTOR.services_by_name["Recommender"]
    assert made == {method.name for method in service.methods}


def test_recommend_says_every_option():
    call = calls.recommend("u", 3, {"a": 1.0}, "m", ["x"], True, 0.5, 7)
    assert call.request == pb.RecommendRequest(
        user_id="u",
        k=3,
        features={"a": encode_feature(1.0)},
        model="m",
        exclude_item_ids=["x"],
        include_seen=True,
        exploration=0.5,
        seed=7,
    )
    default = calls.recommend("u", 3, None, None, (), False, 0.0, None)
    assert default.request == pb.RecommendRequest(user_id="u", k=3)


def test_absent_values_are_none():
    ranked = calls.rank("u", ["1"], None, None).decode(
        pb.RankResponse(scores=[1.5])
    )
    assert ranked.provenance.kept_share is None
    assert ranked.scores.tolist() == [1.5]
    learned = calls.submit_feedback("u", [], None, None).decode(
        pb.SubmitFeedbackResponse(duplicates=2)
    )
    assert (learned.loss_before, learned.loss_after) == (None, None)
    recommended = calls.recommend(
        "u", 1, None, None, (), False, 0.0, None
    ).decode(pb.RecommendResponse())
    assert recommended.seed is None


@pytest.mark.parametrize(
    ("rung", "name"),
    [
        (pb.RUNG_ADAPTED, "adapted"),
        (pb.RUNG_META_INIT_WITH_FEATURES, "meta_init_with_features"),
        (99, "rung 99"),
    ],
)
def test_rung_is_told_by_name_even_one_of_tomorrow(rung, name):
    answer = calls.rank("u", [], None, None).decode(
        pb.RankResponse(provenance=pb.Provenance(rung=rung))
    )
    assert answer.provenance.rung == name


def test_export_names_all_that_is_held():
    answer = calls.get_user("u").decode(
        pb.GetUserResponse(
            user_id="u",
            found=True,
            models=[
                pb.UserModel(
                    sequence=4,
                    support_count=2,
                    weights=[
                        pb.StoredWeights(
                            fingerprint_digest="ab",
                            support_count=2,
                            dtype="float32",
                            values=[0.5, 0.25],
                        )
                    ],
                    reservoir=[pb.SupportEvent(item_id="1", label=1.0)],
                    events=[
                        pb.FeedbackEvent(event_id="e", item_id="1", timestamp=9)
                    ],
                )
            ],
        )
    )
    (model,) = answer.models
    assert model.weights == (StoredWeights("ab", 2, "float32", (0.5, 0.25)),)
    assert model.reservoir == (("1", 1.0),)
    assert model.events == (FeedbackEvent("e", "1", 0.0, 9),)
    assert (answer.found, model.sequence, model.deleted_ms) == (True, 4, None)


def test_status_and_receipt_come_whole():
    status = calls.get_status().decode(
        pb.GetStatusResponse(
            models=[
                pb.ModelStatus(model="m", user_features={"age": "numeric"})
            ],
            default_model="m",
            counters={"requests": 3.0},
        )
    )
    assert status.models[0].user_features == {"age": "numeric"}
    assert (status.default_model, status.counters) == ("m", {"requests": 3.0})
    receipt = calls.delete_user("u").decode(
        pb.DeleteUserResponse(
            receipt_id="r", deleted_ms=1, expires_ms=2, records=3, events=4
        )
    )
    assert (receipt.receipt_id, receipt.expires_ms) == ("r", 2)
    assert (receipt.records, receipt.events) == (3, 4)
