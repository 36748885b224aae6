"""The served path: client, gateway, LMDB, model server, SavedModel."""

import asyncio
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.client import (
    AsyncRecommenderClient,
    FeedbackEvent,
    RecommenderClient,
)
from serving.launch import start_model_server
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.store import LmdbStore, UserKey
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ITEM_IDS
from tests.serving.conftest import push

FEATURES = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}
ITEMS = ["000", "005", "nowhere"]
# What one user did before the version was swapped.
DONE = [("003", 1.0), ("006", 0.0), ("001", 1.0), ("003", 0.0), ("002", 1.0)]


def events(start, size=1, item_id="003", label=1.0):
    return [
        FeedbackEvent(f"e{number}", item_id, label, 1_700_000_000)
        for number in range(start, start + size)
    ]


def test_new_user_is_ranked_from_meta_init(client, oracles):
    result = client.rank("new", ITEMS, FEATURES)
    np.testing.assert_allclose(
        result.scores, oracles[0].rank(FEATURES, ITEMS), atol=1e-5
    )
    assert result.item_ids == tuple(ITEMS)
    assert (result.model, result.version) == ("adaptower", 1)
    assert result.provenance.fingerprint == oracles[0].parameters.fingerprint
    assert (result.support_count, result.store_hit) == (0, False)
    assert not result.degraded


@pytest.mark.parametrize("missing", [None, {"segment": None, "tags": []}])
def test_missing_features_get_defaults(client, oracles, missing):
    np.testing.assert_allclose(
        client.rank("new", ITEMS, missing).scores,
        oracles[0].rank({}, ITEMS),
        atol=1e-5,
    )


def test_third_feedback_changes_the_next_rank(client, oracles):
    shown = [client.rank("third", ITEMS, FEATURES).scores]
    weights, seen = None, []
    for number in range(3):
        event = FeedbackEvent(str(number), ITEM_IDS[number], number % 2)
        result = client.submit_feedback("third", [event], FEATURES)
        seen.append(event)
        weights, before, after = oracles[0].adapt(
            FEATURES,
            [e.item_id for e in seen],
            [e.label for e in seen],
            weights=weights,
        )
        assert result.loss_before == pytest.approx(before, abs=1e-5)
        assert result.loss_after == pytest.approx(after, abs=1e-5)
        assert result.support_count == number + 1
        ranked = client.rank("third", ITEMS, FEATURES)
        assert (ranked.support_count, ranked.store_hit) == (number + 1, True)
        np.testing.assert_allclose(
            ranked.scores,
            oracles[0].rank(FEATURES, ITEMS, weights),
            atol=1e-5,
        )
        shown.append(ranked.scores)
    assert not np.allclose(shown[2], shown[3], atol=1e-3)


def test_users_do_not_share_weights(client):
    before = client.rank("other", ITEMS).scores
    client.submit_feedback("somebody", events(0, 5))
    np.testing.assert_array_equal(client.rank("other", ITEMS).scores, before)


def test_event_sent_twice_counts_once(client):
    client.submit_feedback("twice", events(0, 3))
    again = client.submit_feedback("twice", events(1, 3))
    assert (again.accepted, again.duplicates) == (1, 2)
    known = client.submit_feedback("twice", events(0, 4))
    assert (known.accepted, known.duplicates) == (0, 4)
    assert known.loss_before is None
    assert known.support_count == 4


def test_model_is_chosen_by_name(client, oracles):
    result = client.rank("new", ITEMS, FEATURES, model="joint")
    assert result.model == "joint"
    np.testing.assert_allclose(
        result.scores, oracles[1].rank(FEATURES, ITEMS), atol=1e-5
    )


def test_async_client_gives_the_same(client, gateway):
    async def run():
        async with AsyncRecommenderClient(gateway.target) as other:
            feedback = await other.submit_feedback("async", events(0, 2))
            return feedback, await other.rank("async", ITEMS)

    feedback, ranked = asyncio.run(run())
    assert feedback.support_count == ranked.support_count == 2
    np.testing.assert_array_equal(
        ranked.scores, client.rank("async", ITEMS).scores
    )


def test_generated_stub_speaks_the_same_service(gateway):
    with grpc.insecure_channel(gateway.target) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        answer = stub.Rank(pb.RankRequest(user_id="u", item_ids=ITEMS))
    assert len(answer.scores) == len(ITEMS)


def test_gateway_process_has_no_tensorflow(gateway):
    maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    assert "lmdb" in maps
    assert "tensorflow" not in maps


def test_unchanged_weights_after_a_restart(run_gateway):
    with run_gateway() as gateway, RecommenderClient(gateway.target) as client:
        client.submit_feedback("durable", events(0, 3))
        before = client.rank("durable", ITEMS).scores
        gateway.process.kill()
        gateway.process.wait()
    with run_gateway() as gateway, RecommenderClient(gateway.target) as client:
        after = client.rank("durable", ITEMS)
        assert after.support_count == 3
        np.testing.assert_array_equal(after.scores, before)
        assert gateway.stop() == 0


# The following change what is served, in this order.


def test_swap_under_calls_fails_no_request(
    client, models, toys, oracles, store_path
):
    client.submit_feedback("swapped", events(0, 4))
    client.submit_feedback(
        "straggler",
        [FeedbackEvent(str(n), *event) for n, event in enumerate(DONE)],
        FEATURES,
    )
    stopped = threading.Event()
    answers, failures = [], []
    expected = {
        version: oracles[version - 1].rank({}, ITEMS) for version in (1, 2)
    }

    def call(user):
        number = 0
        while not stopped.is_set():
            number += 1
            try:
                answers.append(client.rank("unseen", ITEMS))
                client.submit_feedback(user, events(number))
            except grpc.RpcError as error:
                failures.append(error)

    threads = [
        threading.Thread(target=call, args=(f"busy{i}",)) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    push(toys[1], models["adaptower"], 2)
    wait_until(lambda: 2 in {answer.version for answer in answers})
    stopped.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {answer.version for answer in answers} == {1, 2}
    for answer in answers:
        np.testing.assert_allclose(
            answer.scores, expected[answer.version], atol=1e-5
        )


def test_weights_of_the_old_fixed_part_are_not_applied(client, oracles):
    result = client.rank("swapped", ITEMS)
    assert (result.store_hit, result.support_count) == (False, 0)
    assert result.degraded
    assert "another fixed part" in result.provenance.degraded_reason
    np.testing.assert_allclose(
        result.scores, oracles[1].rank({}, ITEMS), atol=1e-5
    )


def test_first_rank_after_a_swap_falls_back_and_the_next_ones_have_relearned(
    client, oracles
):
    first = client.rank("straggler", ITEMS, FEATURES)
    assert (first.version, first.store_hit, first.support_count) == (
        2,
        False,
        0,
    )
    assert first.provenance.rung == "fallback"
    assert (
        "learned again behind this answer" in first.provenance.degraded_reason
    )
    np.testing.assert_allclose(
        first.scores, oracles[1].rank(FEATURES, ITEMS), atol=1e-5
    )
    wait_until(lambda: not client.rank("straggler", ITEMS, FEATURES).degraded)
    later = client.rank("straggler", ITEMS, FEATURES)
    # From the new version's meta-initialization, with the user's own events.
    items, labels = zip(*DONE, strict=True)
    weights, _, _ = oracles[1].adapt(FEATURES, items, labels)
    assert later.provenance.rung == "adapted"
    assert (later.version, later.support_count) == (2, len(DONE))
    np.testing.assert_allclose(
        later.scores, oracles[1].rank(FEATURES, ITEMS, weights), atol=1e-5
    )
    # Those of the version before stay, for a rollback.
    weights, _, _ = oracles[0].adapt(FEATURES, items, labels)
    learned, before = client.get_user("straggler").models[0].weights
    np.testing.assert_allclose(before.values, weights, atol=1e-5)
    assert learned.support_count == before.support_count == len(DONE)


def test_feedback_learns_the_kept_events_for_the_new_fixed_part(
    client, oracles
):
    # The user came, and was learned again behind the answer.
    wait_until(lambda: client.rank("swapped", ITEMS).store_hit)
    result = client.submit_feedback("swapped", events(10, 1, "001", 0.0))
    weights = None
    for items, labels in (([], []), (["001"], [0.0])):
        weights, _, _ = oracles[1].adapt(
            {}, ["003"] * 4 + items, [1.0] * 4 + labels, weights=weights
        )
    assert result.support_count == 5
    ranked = client.rank("swapped", ITEMS)
    assert (ranked.store_hit, ranked.degraded) == (True, False)
    np.testing.assert_allclose(
        ranked.scores, oracles[1].rank({}, ITEMS, weights), atol=1e-5
    )


def test_gone_model_server_is_unavailable_and_comes_back(
    client, model_server, models, tmp_path
):
    model_server.process.kill()
    model_server.process.wait()
    with pytest.raises(grpc.RpcError) as refused:
        # Of features that nobody else has: nothing of it is kept.
        client.rank("unseen", ITEMS, {"age": 33.0})
    assert refused.value.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    with start_model_server(
        models, port=model_server.port, log_path=tmp_path / "log"
    ):
        ready = time.monotonic()
        while True:
            try:
                client.rank("unseen", ITEMS, {"age": 33.0})
                break
            except grpc.RpcError:
                assert time.monotonic() - ready < 60


def test_sigterm_drains_and_leaves_what_was_acknowledged(
    gateway, store_path, client
):
    assert gateway.stop() == 0
    with LmdbStore(store_path) as store:
        record = store.get(UserKey("adaptower", "swapped"))
    assert record.support_count == 5
