import asyncio

import numpy as np
import pytest

from serving.contract.support import SupportEvent, merge_support
from serving.errors import (
    BackendError,
    RecordError,
    StoreConflictError,
    StoreError,
)
from serving.gateway.config import Limits
from serving.gateway.ladder import OTHER_FINGERPRINT, Ladder
from serving.gateway.learner import RECENT_EVENTS, Learner
from serving.gateway.ranker import Ranker
from serving.gateway.registry import ServedModel
from serving.gateway.requests import feature_inputs
from serving.protos import recommender_pb2 as pb
from serving.store import (
    MemoryStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import (
    NUM_ADAPTIVE,
    USER_FEATURES,
    ToyOracle,
    ToyParameters,
)

ORACLES = {seed: ToyOracle(ToyParameters.from_seed(seed)) for seed in (1, 2)}
FEATURES = feature_inputs({}, {f.name: f for f in USER_FEATURES}, Limits())
LADDER = Ladder()
ITEMS = ["001", "002"]


def served(version):
    manifest = ORACLES[version].parameters.manifest()
    return ServedModel("adaptower", version, manifest)


def event(number, item_id="001", label=1.0):
    return pb.FeedbackEvent(event_id=f"e{number}", item_id=item_id, label=label)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def backend():
    return OracleBackend(dict(ORACLES))


def learn(backend, store, *batches, version=1, user_id="u", dtype="float32"):
    """Submits batches one after the other; returns what each changed."""

    async def run():
        learner = Learner(backend, store, LADDER, dtype)
        return [
            await learner.learn(served(version), user_id, batch, FEATURES)
            for batch in batches
        ]

    return asyncio.run(run())


def rank(backend, store, version=1, user_id="u"):
    model = served(version)

    async def run():
        user = await LADDER.read(store, model, user_id)
        return await Ranker(backend).rank(model, user, ITEMS, {})

    ranking = asyncio.run(run())
    return ranking.scores, ranking.user


def test_stored_weights_equal_the_oracle_over_several_requests(backend, store):
    batches = [
        [
            event(i, f"{i % 8:03d}", float(i % 2))
            for i in range(9 * n, 9 * n + 9)
        ]
        for n in range(4)
    ]
    learned = learn(backend, store, *batches)
    weights, reservoir, count = None, (), 0
    for batch, outcome in zip(batches, learned, strict=True):
        new = [SupportEvent(e.item_id, e.label) for e in batch]
        support = merge_support(reservoir, new, count, 16)
        reservoir, count = support.reservoir, support.count
        weights, before, after = ORACLES[1].adapt(
            {},
            [e.item_id for e in support.events],
            [e.label for e in support.events],
            support.weights,
            weights,
        )
        assert outcome.losses == pytest.approx((before, after), abs=1e-5)
    record = store.get(UserKey("adaptower", "u"))
    np.testing.assert_allclose(record.weights, weights, atol=1e-5)
    assert record.support_count == 36
    assert record.sequence == 4
    assert record.reservoir == reservoir
    assert len(record.reservoir) == 16


def test_known_events_are_not_learned_from_again(backend, store):
    first, again = learn(
        backend, store, [event(1), event(2)], [event(2), event(1)]
    )
    assert (first.accepted, again.accepted) == (2, 0)
    assert again.losses is None
    assert again.user.support_count == 2
    assert backend.calls == ["adapt"]


def test_event_twice_in_one_request_counts_once(backend, store):
    (learned,) = learn(
        backend, store, [event(1), event(2), event(1, label=0.0)]
    )
    assert learned.accepted == 2
    record = store.get(UserKey("adaptower", "u"))
    assert record.reservoir == (SupportEvent("001", 1.0),) * 2


def test_whole_request_can_be_sent_again_however_long(backend, store):
    batch = [event(i) for i in range(3 * RECENT_EVENTS)]
    _, again = learn(backend, store, batch, batch)
    assert again.accepted == 0


def test_half_precision_is_stored_as_such(backend, store):
    learn(backend, store, [event(1)], dtype="float16")
    record = store.get(UserKey("adaptower", "u"))
    expected, _, _ = ORACLES[1].adapt({}, ["001"], [1.0])
    assert record.weights.dtype == np.float16
    np.testing.assert_allclose(record.weights, expected, atol=1e-3)


def test_weights_of_another_fixed_part_are_not_applied(backend, store):
    learn(backend, store, [event(i) for i in range(5)])
    scores, user = rank(backend, store, version=2)
    np.testing.assert_allclose(scores, ORACLES[2].rank({}, ITEMS), atol=1e-5)
    assert not user.hit
    assert user.degraded_reason == OTHER_FINGERPRINT


def test_feedback_learns_kept_events_again_for_a_new_fixed_part(backend, store):
    learn(backend, store, [event(i) for i in range(5)])
    (learned,) = learn(backend, store, [event(9, "002", 0.0)], version=2)
    expected, _, _ = ORACLES[2].adapt(
        {}, ["001"] * 5 + ["002"], [1.0] * 5 + [0.0]
    )
    np.testing.assert_allclose(learned.user.weights, expected, atol=1e-5)
    assert learned.user.support_count == 6
    assert rank(backend, store, version=2)[1].hit


@pytest.mark.parametrize(
    "result", [np.full(NUM_ADAPTIVE, np.nan), np.zeros(NUM_ADAPTIVE + 1)]
)
def test_unfit_weights_from_the_inner_loop_change_nothing(
    backend, store, result
):
    learn(backend, store, [event(1)])
    before = store.get(UserKey("adaptower", "u")).to_bytes()
    backend.adapt_result = result
    with pytest.raises(BackendError, match="not finite or"):
        learn(backend, store, [event(2)])
    assert store.get(UserKey("adaptower", "u")).to_bytes() == before


def test_weights_too_large_for_half_precision_are_not_stored(backend, store):
    backend.adapt_result = np.full(NUM_ADAPTIVE, 1e5)
    with pytest.raises(BackendError, match="not finite"):
        learn(backend, store, [event(1)], dtype="float16")


class TroubledStore(MemoryStore):
    """Fails reads or refuses writes on demand."""

    def __init__(self, error=None, refusals=0):
        super().__init__()
        self.error = error
        self.refusals = refusals

    def get(self, key):
        if self.error is not None:
            raise self.error
        return super().get(key)

    def compare_and_put(self, record):
        if self.refusals:
            self.refusals -= 1
            return False
        return super().compare_and_put(record)


def test_unreadable_store_degrades_rank_to_meta_init(backend):
    store = TroubledStore(StoreError("the disk is gone"))
    scores, user = rank(backend, store)
    np.testing.assert_allclose(scores, ORACLES[1].rank({}, ITEMS), atol=1e-5)
    assert user.degraded_reason == "the disk is gone"
    with pytest.raises(StoreError, match="the disk is gone"):
        learn(backend, store, [event(1)])


def test_damaged_record_is_replaced_by_the_next_feedback(backend):
    store = TroubledStore(RecordError("damaged"))
    (learned,) = learn(backend, store, [event(1)])
    assert learned.user.support_count == 1
    store.error = None
    assert store.get(UserKey("adaptower", "u")).sequence == 1


def test_weights_that_spoil_the_scores_degrade_to_meta_init(backend, store):
    store.compare_and_put(
        UserRecord(
            key=UserKey("adaptower", "u"),
            fingerprint=fingerprint_digest(ORACLES[1].parameters.fingerprint),
            sequence=1,
            support_count=3,
            weights=np.full(NUM_ADAPTIVE, 1e30, np.float32),
        )
    )
    scores, user = rank(backend, store)
    np.testing.assert_allclose(scores, ORACLES[1].rank({}, ITEMS), atol=1e-5)
    assert "not finite" in user.degraded_reason


def test_lost_race_is_run_again_until_it_is_hopeless(backend):
    store = TroubledStore(refusals=3)
    (learned,) = learn(backend, store, [event(1)])
    assert learned.accepted == 1
    store.refusals = 1000
    with pytest.raises(StoreConflictError, match="Send the events again"):
        learn(backend, store, [event(2)])


def test_simultaneous_feedback_of_one_user_is_all_counted(backend, store):
    async def run():
        learners = [Learner(backend, store, LADDER) for _ in range(2)]
        await asyncio.gather(
            *(
                learners[i % 2].learn(served(1), "u", [event(i % 20)], FEATURES)
                for i in range(40)
            )
        )

    asyncio.run(run())
    record = store.get(UserKey("adaptower", "u"))
    assert record.support_count == record.sequence == 20
