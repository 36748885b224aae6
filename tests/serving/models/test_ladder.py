import asyncio
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import StoreError
from serving.models.ladder import Ladder
from serving.models.served_model import ServedModel
from serving.protos import recommender_pb2 as pb
from serving.store import (
    MemoryStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyParameters

PARAMETERS = ToyParameters.from_seed(1)
MODEL = ServedModel("adaptower", 1, PARAMETERS.manifest())
META_INIT = PARAMETERS.meta_init
DAY_MS = 86_400_000
UPDATED_MS = 1_700_000_000_000


def record(user_id="u", weights=None, updated_ms=UPDATED_MS, support_count=9):
    return UserRecord(
        key=UserKey("adaptower", user_id),
        fingerprint=fingerprint_digest(PARAMETERS.fingerprint),
        sequence=1,
        support_count=support_count,
        weights=np.ones(NUM_ADAPTIVE, np.float32)
        if weights is None
        else weights,
        updated_ms=updated_ms,
    )


@settings(deadline=None)
@given(
    half_life=st.floats(0.01, 10_000),
    age_days=st.floats(0, 100_000),
    seed=st.integers(0, 99),
)
def test_decay_is_the_closed_form(half_life, age_days, seed):
    weights = np.random.default_rng(seed).normal(size=NUM_ADAPTIVE)
    weights = weights.astype(np.float32)
    user = Ladder(half_life).state_of(
        MODEL, record(weights=weights), UPDATED_MS + age_days * DAY_MS
    )
    # Counted in hundredths of the half-life.
    least, most = (
        0.5 ** (max(0.0, age) / half_life)
        for age in (age_days, age_days - 0.01001 * half_life)
    )
    assert least * 0.9999 - 1e-9 <= user.kept_share <= most * 1.0001 + 1e-9
    expected = user.kept_share * (weights - META_INIT) + META_INIT
    np.testing.assert_allclose(user.weights, expected, atol=1e-6)
    assert user.hit
    assert user.rung(True) in (pb.RUNG_ADAPTED, pb.RUNG_DECAYED)
    assert user.support_count == 9


@pytest.mark.parametrize(
    ("age_days", "rung"),
    [(0, pb.RUNG_ADAPTED), (9.9, pb.RUNG_ADAPTED), (10.1, pb.RUNG_DECAYED)],
)
def test_decayed_rung_begins_after_one_half_life(age_days, rung):
    user = Ladder(10.0).state_of(
        MODEL, record(), UPDATED_MS + age_days * DAY_MS
    )
    assert user.rung(False) == rung


def test_weights_stay_between_two_steps_of_their_decay():
    weights = [
        Ladder(10.0)
        .state_of(MODEL, record(), UPDATED_MS + age_days * DAY_MS)
        .weights.tobytes()
        for age_days in (0.01, 0.09, 0.11, 0.19, 0.21)
    ]
    first, again, second, still, third = weights
    assert first == again
    assert second == still
    assert len({first, second, third}) == 3


def test_clock_behind_the_record_does_not_amplify_the_weights():
    user = Ladder(10.0).state_of(MODEL, record(), UPDATED_MS - 30 * DAY_MS)
    np.testing.assert_array_equal(user.weights, record().weights)


def test_weights_without_a_half_life_stay_bit_for_bit():
    half = np.linspace(-1, 1, NUM_ADAPTIVE).astype(np.float16)
    user = Ladder().state_of(MODEL, record(weights=half))
    np.testing.assert_array_equal(user.weights, half)
    assert user.weights.dtype == np.float32


def read_many(store, *user_ids):
    return asyncio.run(Ladder().read_many(store, MODEL, user_ids))


def test_users_of_a_batch_each_get_their_own_rung():
    store = MemoryStore()
    store.compare_and_put(record("known", updated_ms=int(time.time() * 1e3)))
    users = read_many(store, "new", "known", "", "known")
    assert [user.hit for user in users] == [False, True, False, True]
    np.testing.assert_array_equal(users[0].weights, META_INIT)
    np.testing.assert_array_equal(users[3].weights, record().weights)


def test_user_who_cannot_be_read_is_degraded_and_no_other():
    class Broken(MemoryStore):
        async def aget(self, key, seconds=None):
            if key.user_id == "known":
                return await super().aget(key, seconds)
            raise StoreError("the disk is gone")

    store = Broken()
    store.compare_and_put(record("known", updated_ms=int(time.time() * 1e3)))
    users = read_many(store, "a", "known", "", "b")
    reasons = [user.degraded_reason for user in users]
    assert reasons == ["the disk is gone", "", "", "the disk is gone"]
    assert users[1].hit
    np.testing.assert_array_equal(users[3].weights, META_INIT)
