import dataclasses
import time

import grpc
import numpy as np
import pytest

from serving.limits import Limits
from serving.protos import recommender_pb2 as pb
from serving.store import (
    MemoryStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from tests.helpers.refusals import refused
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE, ToyParameters

PARAMETERS = ToyParameters.from_seed(1)
META_INIT = PARAMETERS.meta_init
WEIGHTS = np.linspace(-1, 1, NUM_ADAPTIVE).astype(np.float32)
ITEMS = ["001", "nowhere", "005", "neither"]
DAY_MS = 86_400_000


def feature(*values):
    if isinstance(values[0], str):
        return pb.FeatureValues(strings=pb.StringList(values=values))
    return pb.FeatureValues(numbers=pb.NumberList(values=values))


FEATURES = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}
SENT = {
    "segment": feature("artist"),
    "tags": feature("drama", "war"),
    "age": feature(30.0),
}


def put(store, user_id="u", weights=WEIGHTS, seen=(), **changes):
    record = UserRecord(
        key=UserKey("model0", user_id),
        fingerprint=fingerprint_digest(PARAMETERS.fingerprint),
        sequence=1,
        support_count=7,
        weights=weights,
        reservoir=seen,
        updated_ms=int(time.time() * 1e3),
    )
    assert store.compare_and_put(dataclasses.replace(record, **changes))


def rank(gateway, user_id="u", items=ITEMS, **fields):
    return gateway.stub.Rank(
        pb.RankRequest(user_id=user_id, item_ids=items, **fields)
    )


def recommend(gateway, user_id="u", k=3, **fields):
    return gateway.stub.Recommend(
        pb.RecommendRequest(user_id=user_id, k=k, **fields)
    )


# Rank, rung by rung.


def test_nothing_known_is_meta_init_with_defaults(gateway, oracle):
    answer = rank(gateway)
    np.testing.assert_allclose(answer.scores, oracle.rank({}, ITEMS), atol=1e-5)
    told = answer.provenance
    assert told.rung == pb.RUNG_META_INIT
    assert list(told.missing_features) == ["segment", "tags", "age"]
    assert (told.support_count, told.store_hit, told.degraded) == (0, False, 0)
    assert not told.HasField("kept_share")


def test_features_without_events_are_a_rung_of_their_own(gateway, oracle):
    answer = rank(gateway, features={"age": SENT["age"]})
    np.testing.assert_allclose(
        answer.scores, oracle.rank({"age": 30.0}, ITEMS), atol=1e-5
    )
    assert answer.provenance.rung == pb.RUNG_META_INIT_WITH_FEATURES
    assert list(answer.provenance.missing_features) == ["segment", "tags"]


def test_own_weights_are_the_adapted_rung(gateway, oracle):
    put(gateway.store)
    answer = rank(gateway, features=SENT)
    np.testing.assert_allclose(
        answer.scores, oracle.rank(FEATURES, ITEMS, WEIGHTS), atol=1e-5
    )
    told = answer.provenance
    assert (told.rung, told.support_count) == (pb.RUNG_ADAPTED, 7)
    assert told.kept_share == 1.0
    assert not told.missing_features


def test_long_unseen_user_is_on_the_way_back_to_meta_init(start, oracle):
    gateway = start(decay_half_life_days=30.0)
    then = int(time.time() * 1e3) - 60 * DAY_MS
    put(gateway.store, updated_ms=then)
    answer = rank(gateway)
    decayed = META_INIT + (WEIGHTS - META_INIT) / 4
    np.testing.assert_allclose(
        answer.scores, oracle.rank({}, ITEMS, decayed), atol=1e-4
    )
    told = answer.provenance
    assert told.rung == pb.RUNG_DECAYED
    assert told.kept_share == pytest.approx(0.25, abs=1e-4)
    assert told.updated_ms == then


def test_weights_of_another_fixed_part_are_the_fallback_rung(gateway, oracle):
    put(gateway.store, fingerprint=fingerprint_digest("other"))
    answer = rank(gateway)
    np.testing.assert_allclose(answer.scores, oracle.rank({}, ITEMS), atol=1e-5)
    assert answer.provenance.rung == pb.RUNG_FALLBACK
    assert answer.provenance.degraded
    assert "another fixed part" in answer.provenance.degraded_reason


def test_rollback_finds_the_weights_of_the_old_version(start):
    gateway = start(versions=(1, 2))
    old = UserRecord(
        key=UserKey("model0", "u"),
        fingerprint=fingerprint_digest(PARAMETERS.fingerprint),
        sequence=1,
        support_count=5,
        weights=WEIGHTS,
    )
    newer = fingerprint_digest(ToyParameters.from_seed(2).fingerprint)
    put(
        gateway.store,
        weights=WEIGHTS + 1,
        fingerprint=newer,
        earlier=old.earlier_than(newer),
    )
    assert rank(gateway).provenance.support_count == 7
    del gateway.backend.versions[2]
    gateway.refresh()
    told = rank(gateway).provenance
    assert (told.version, told.support_count) == (1, 5)
    assert told.rung == pb.RUNG_ADAPTED


def test_unknown_candidates_are_scored_and_named(gateway):
    assert list(rank(gateway).unknown_item_ids) == ["nowhere", "neither"]
    assert not rank(gateway, items=["001", "002"]).unknown_item_ids
    counters = gateway.metrics.counters()
    assert counters['adaptower_unknown_items_total{method="Rank"}'] == 2.0


def test_a_version_that_went_away_is_followed_by_its_successor(start):
    gateway = start(versions=(1, 2))
    assert rank(gateway).provenance.version == 2
    del gateway.backend.versions[2]
    assert rank(gateway).provenance.version == 1


# Recommend.


def best(oracle, k, features=None, weights=META_INIT, without=()):
    items = [item_id for item_id in ITEM_IDS if item_id not in without]
    scores = oracle.rank(features or {}, items, weights)
    order = np.argsort(-scores)[:k]
    return [items[index] for index in order], scores[order]


def test_recommend_finds_the_best_of_the_catalogue(gateway, oracle):
    put(gateway.store)
    answer = recommend(gateway, features=SENT)
    items, scores = best(oracle, 3, FEATURES, WEIGHTS)
    assert list(answer.item_ids) == items
    np.testing.assert_allclose(answer.scores, scores, atol=1e-5)
    assert answer.provenance.rung == pb.RUNG_ADAPTED
    assert not answer.HasField("seed")


def events(*item_ids):
    return [
        pb.FeedbackEvent(event_id=str(number), item_id=item_id, label=1.0)
        for number, item_id in enumerate(item_ids)
    ]


def test_seen_and_excluded_items_are_left_out(gateway):
    gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(
            user_id="u", events=events("001", "002", "001")
        )
    )
    answer = recommend(gateway, k=8, exclude_item_ids=["003", "nowhere"])
    assert answer.seen == 2
    assert set(answer.item_ids) == set(ITEM_IDS) - {"001", "002", "003"}
    assert np.isfinite(answer.scores).all()
    again = recommend(gateway, k=8, include_seen=True)
    assert set(again.item_ids) == set(ITEM_IDS)
    assert again.seen == 0


def test_exploration_with_a_seed_is_reproducible(gateway):
    fields = {"exploration": 1.0, "seed": 5, "k": 8}
    first, second = (recommend(gateway, **fields) for _ in range(2))
    assert first.scores == second.scores
    assert first.seed == 5
    assert recommend(gateway, **{**fields, "seed": 6}).scores != first.scores
    assert recommend(gateway, "other", **fields).scores != first.scores


def test_exploration_without_a_seed_tells_the_one_it_took(gateway):
    first = recommend(gateway, exploration=1.0, k=8)
    other = recommend(gateway, exploration=1.0, k=8)
    assert first.seed != other.seed
    again = recommend(gateway, exploration=1.0, k=8, seed=first.seed)
    assert again.scores == first.scores


def test_weights_that_spoil_the_scores_fall_back_to_meta_init(gateway, oracle):
    put(gateway.store, weights=np.full(NUM_ADAPTIVE, 1e38, np.float32))
    answer = recommend(gateway)
    assert list(answer.item_ids) == best(oracle, 3)[0]
    assert answer.provenance.rung == pb.RUNG_FALLBACK
    assert "not finite" in answer.provenance.degraded_reason


# Bad input.


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"user_id": ""}, "INVALID_ARGUMENT", "user_id is empty"),
        ({"items": []}, "INVALID_ARGUMENT", "at least one"),
        ({"items": ["1", ""]}, "INVALID_ARGUMENT", "item_id is empty"),
        ({"items": ["ä" * 200]}, "INVALID_ARGUMENT", "400 bytes; at most 256"),
        ({"items": ["1"] * 51}, "INVALID_ARGUMENT", "50 allowed"),
        ({"model": "nobody"}, "NOT_FOUND", "served are: model0"),
        ({"features": {"zip": feature("1")}}, "INVALID_ARGUMENT", "'zip'"),
        ({"features": {"age": feature("x")}}, "INVALID_ARGUMENT", "as numbers"),
        (
            {"features": {"age": feature(1.0, 2.0)}},
            "INVALID_ARGUMENT",
            "one value, got 2",
        ),
        (
            {"features": {"tags": feature(*["a"] * 21)}},
            "INVALID_ARGUMENT",
            "21 values; at most 20",
        ),
        (
            {"features": {"segment": feature("s" * 2000)}},
            "INVALID_ARGUMENT",
            "2000 bytes; at most 1024",
        ),
        (
            {"features": {"age": feature(float("-inf"))}},
            "INVALID_ARGUMENT",
            "finite",
        ),
        ({"items": ["1" * 99] * 40}, "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_bad_rank_is_refused_with_help(start, fields, code, words):
    limits = Limits(candidates=50, feature_values=20, message_bytes=3000)
    answer = refused(lambda: rank(start(limits=limits), **fields))
    assert answer[0] == code
    assert words in answer[1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user_id": ""}, "user_id is empty"),
        ({"k": 0}, "k is 0; ask for at least 1"),
        ({"k": -3}, "k is -3"),
        ({"k": 51}, "at most 50"),
        ({"exclude_item_ids": ["x"] * 51}, "51 excluded items"),
        ({"exclude_item_ids": [""]}, "exclude_item_ids entry is empty"),
        ({"exploration": -1.0}, "exploration is -1.0"),
        ({"exploration": float("nan")}, "exploration is nan"),
        ({"exploration": 11.0}, "to 10"),
    ],
)
def test_bad_recommend_is_refused_with_help(start, fields, words):
    gateway = start(limits=Limits(candidates=50))
    answer = refused(lambda: recommend(gateway, **fields))
    assert answer[0] == "INVALID_ARGUMENT"
    assert words in answer[1]


def test_bytes_that_are_no_request_are_refused_with_help(gateway):
    call = gateway.channel.unary_unary("/adaptower.v1.Recommender/Rank")
    assert refused(lambda: call(b"\xff\xff\xff\xff")) == (
        "INVALID_ARGUMENT",
        "The bytes sent are no RankRequest.",
    )


def test_unexpected_errors_stay_in_the_log(start, caplog):
    class Broken(MemoryStore):
        async def aget(self, key, seconds=None):
            raise KeyError("a secret")

    gateway = start(store=Broken())
    with pytest.raises(grpc.RpcError) as error:
        rank(gateway)
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert "a secret" not in error.value.details()
    number = dict(error.value.trailing_metadata())["x-request-id"]
    assert number
    assert "a secret" in caplog.text
