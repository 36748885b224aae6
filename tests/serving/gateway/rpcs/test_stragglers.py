"""Users who are met after a rollover or a rollback are learned again."""

import asyncio
import threading

import numpy as np
import pytest

from serving.errors import BackendUnavailableError, UnknownModelError
from serving.online import stragglers
from serving.protos import recommender_pb2 as pb
from serving.protos import tf_serving_pb2
from serving.store import MemoryStore, UserKey
from serving.store.record_bytes import encode_record
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle, ToyParameters

ITEMS = ["000", "001", "005"]
SEEN = ["003", "001", "006"]
LABELS = [1.0, 0.0, 1.0]
FEATURES = {"segment": "artist", "age": 40.0}


@pytest.fixture(scope="module")
def oracles():
    return {v: ToyOracle(ToyParameters.from_seed(v)) for v in (1, 2)}


@pytest.fixture
def gateway(start, oracles):
    """Version 1 serves, version 2 is there but not loaded yet."""
    gateway = start(versions=(1, 2))
    serve(gateway, {1: oracles[1]})
    return gateway


def serve(gateway, versions):
    gateway.backend.versions = versions
    gateway.refresh()


def told(features=FEATURES):
    return {
        name: pb.FeatureValues(numbers=pb.NumberList(values=[value]))
        if isinstance(value, float)
        else pb.FeatureValues(strings=pb.StringList(values=[value]))
        for name, value in features.items()
    }


def teach(gateway, user_id="u", items=SEEN, labels=LABELS, start=0):
    gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(
            user_id=user_id,
            features=told(),
            events=[
                pb.FeedbackEvent(event_id=str(n), item_id=item, label=label)
                for n, (item, label) in enumerate(
                    zip(items, labels, strict=True), start
                )
            ],
        )
    )


def rank(gateway, user_id="u"):
    return gateway.stub.Rank(
        pb.RankRequest(user_id=user_id, item_ids=ITEMS, features=told())
    )


def counted(gateway, outcome):
    name = (
        f'adaptower_users_relearned_total{{model="model0",outcome="{outcome}"}}'
    )
    return gateway.metrics.counters().get(name, 0)


def test_the_first_answer_degrades_and_the_next_ones_do_not(gateway, oracles):
    teach(gateway)
    serve(gateway, oracles)
    first = rank(gateway)
    assert first.provenance.rung == pb.RUNG_FALLBACK
    assert "learned again behind this answer" in (
        first.provenance.degraded_reason
    )
    np.testing.assert_allclose(
        first.scores, oracles[2].rank(FEATURES, ITEMS), atol=1e-5
    )
    wait_until(lambda: counted(gateway, stragglers.LEARNED) == 1)
    second = rank(gateway)
    weights, _, _ = oracles[2].adapt(FEATURES, SEEN, LABELS)
    assert second.provenance.rung == pb.RUNG_ADAPTED
    assert second.provenance.support_count == 3
    np.testing.assert_allclose(
        second.scores, oracles[2].rank(FEATURES, ITEMS, weights), atol=1e-5
    )
    # Learned once, whoever asks.
    rank(gateway)
    assert gateway.store.get(UserKey("model0", "u")).sequence == 2


def test_after_a_rollback_the_old_weights_answer_and_catch_up(gateway, oracles):
    teach(gateway)
    before = rank(gateway)
    serve(gateway, oracles)
    # Under the new version more is learned than the old one knows of.
    teach(gateway, items=["002"], labels=[1.0], start=10)
    assert rank(gateway).provenance.version == 2
    serve(gateway, {1: oracles[1]})
    again = rank(gateway)
    assert again.provenance.rung == pb.RUNG_ADAPTED
    assert again.provenance.support_count == 3
    np.testing.assert_allclose(again.scores, before.scores, atol=1e-5)
    wait_until(lambda: counted(gateway, stragglers.LEARNED) == 1)
    caught_up = rank(gateway)
    old, _, _ = oracles[1].adapt(FEATURES, SEEN, LABELS)
    weights, _, _ = oracles[1].adapt(
        FEATURES, [*SEEN, "002"], [*LABELS, 1.0], weights=old
    )
    assert caught_up.provenance.support_count == 4
    np.testing.assert_allclose(
        caught_up.scores, oracles[1].rank(FEATURES, ITEMS, weights), atol=1e-4
    )
    # Back and forth again: nothing is left to learn.
    serve(gateway, oracles)
    assert rank(gateway).provenance.support_count == 4


def test_many_users_are_learned_in_few_calls_each_once(gateway, oracles):
    users = [f"u{number}" for number in range(100)]
    for user in users:
        teach(gateway, user)
    serve(gateway, oracles)
    gateway.backend.calls.clear()
    for user in users * 2:
        rank(gateway, user)
    wait_until(lambda: counted(gateway, stragglers.LEARNED) == 100)
    assert gateway.backend.calls.count("adapt") < 100
    for user in users:
        record = gateway.store.get(UserKey("model0", user))
        assert record.sequence == 2
    assert rank(gateway, users[7]).provenance.rung == pb.RUNG_ADAPTED


def test_nobody_is_learned_again_for_the_same_version(gateway):
    teach(gateway)
    rank(gateway)
    rank(gateway, "nobody")
    record = gateway.store.get(UserKey("model0", "u"))
    assert record.sequence == 1
    assert counted(gateway, stragglers.CURRENT) == 0


class PausingStore(MemoryStore):
    """Waits before it stores, once told to."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()
        self.waiting = threading.Event()

    def compare_and_put_many(self, records):
        self.waiting.set()
        assert self.go_on.wait(60)
        return super().compare_and_put_many(records)


@pytest.fixture
def paused(start, oracles):
    """A straggler is learned, and is about to be stored."""
    store = PausingStore()
    gateway = start(versions=(1, 2), store=store)
    serve(gateway, {1: oracles[1]})
    teach(gateway)
    serve(gateway, oracles)
    store.go_on.clear()
    store.waiting.clear()
    rank(gateway)
    assert store.waiting.wait(60)
    yield gateway
    store.go_on.set()


def test_who_is_deleted_meanwhile_stays_deleted(paused):
    paused.stub.DeleteUser(pb.DeleteUserRequest(user_id="u"))
    paused.store.go_on.set()
    wait_until(lambda: counted(paused, stragglers.CURRENT) == 1)
    assert paused.store.get(UserKey("model0", "u")) is None


def test_who_learned_meanwhile_keeps_what_was_learned(paused):
    record = paused.store.get(UserKey("model0", "u"))
    late = record.without(record.fingerprint)
    assert MemoryStore.compare_and_put_many(paused.store, [late]) == [True]
    paused.store.go_on.set()
    wait_until(lambda: counted(paused, stragglers.BUSY) == 1)
    assert paused.store.get(late.key).sequence == late.sequence


def test_a_model_server_that_fails_is_asked_again_when_the_user_returns(
    gateway, oracles
):
    teach(gateway)
    serve(gateway, oracles)
    run = gateway.backend.run

    async def fail_to_adapt(model, request):
        spec = tf_serving_pb2.PredictRequest.FromString(request).model_spec
        if spec.signature_name == "adapt":
            raise BackendUnavailableError("gone")
        return await run(model, request)

    gateway.backend.run = fail_to_adapt
    rank(gateway)
    wait_until(lambda: counted(gateway, stragglers.FAILED) == 1)
    gateway.backend.run = run
    rank(gateway)
    wait_until(lambda: counted(gateway, stragglers.LEARNED) == 1)


def test_nobody_waits_for_a_version_that_is_gone(gateway, oracles, monkeypatch):
    monkeypatch.setattr(stragglers, "MAX_BATCH", 1)
    users = ["u", "v", "w"]
    for user in users:
        teach(gateway, user)
    serve(gateway, oracles)
    run = gateway.backend.run
    all_are_met = threading.Event()
    adapts = []

    async def drop_the_version(model, request):
        spec = tf_serving_pb2.PredictRequest.FromString(request).model_spec
        if spec.signature_name != "adapt":
            return await run(model, request)
        adapts.append(spec.version.value)
        assert await asyncio.to_thread(all_are_met.wait, 20)
        raise UnknownModelError("gone")

    gateway.backend.run = drop_the_version
    for user in users:
        rank(gateway, user)
    all_are_met.set()
    wait_until(lambda: counted(gateway, stragglers.DROPPED) == len(users))
    assert adapts == [2]


def test_nonsense_is_not_stored_as_learned_and_tried_again(gateway, oracles):
    teach(gateway)
    before = gateway.store.get(UserKey("model0", "u"))
    serve(gateway, oracles)
    gateway.backend.adapt_result = np.full(NUM_ADAPTIVE, np.nan)
    assert rank(gateway).provenance.rung == pb.RUNG_FALLBACK
    wait_until(lambda: counted(gateway, stragglers.FAILED) == 1)
    assert encode_record(gateway.store.get(before.key)) == encode_record(before)
    gateway.backend.adapt_result = None
    assert rank(gateway).provenance.rung == pb.RUNG_FALLBACK
    wait_until(lambda: counted(gateway, stragglers.LEARNED) == 1)
    weights, _, _ = oracles[2].adapt(FEATURES, SEEN, LABELS)
    np.testing.assert_allclose(
        rank(gateway).scores,
        oracles[2].rank(FEATURES, ITEMS, weights),
        atol=1e-5,
    )


def test_a_full_queue_drops_and_counts(gateway, oracles, monkeypatch):
    monkeypatch.setattr(stragglers, "MAX_WAITING", 0)
    teach(gateway)
    serve(gateway, oracles)
    assert rank(gateway).provenance.rung == pb.RUNG_FALLBACK
    wait_until(lambda: counted(gateway, stragglers.DROPPED) == 1)
