"""Weights of another fixed part that have the right shape: never applied."""

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.protos import recommender_pb2 as pb
from serving.store import LmdbStore, UserKey, UserRecord, fingerprint_digest
from serving.store.redis_store import RedisStore
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE, ToyOracle

pytestmark = pytest.mark.fault

USERS = [f"u{number}" for number in range(40)]
MODEL = "model0"
# Whoever is served here learned under the other one.
OURS, THEIRS = ToyOracle.from_seed(1), ToyOracle.from_seed(2)


@pytest.fixture(params=["lmdb", "redis"])
def store(request, tmp_path):
    if request.param == "lmdb":
        with LmdbStore(tmp_path / "store", 1 << 24) as store:
            yield store
        return
    server = RunningRedis()
    with RedisStore(server.config()) as store:
        yield store
    server.close()


@pytest.fixture
def gateway(store, tmp_path):
    random = np.random.default_rng(11)
    digest = fingerprint_digest(THEIRS.parameters.fingerprint)
    stored = store.compare_and_put_many(
        [
            UserRecord(
                key=UserKey(MODEL, user),
                fingerprint=digest,
                sequence=1,
                support_count=1,
                weights=random.normal(0, 3, NUM_ADAPTIVE).astype(np.float32),
                # Half of them have events to learn from again.
                reservoir=(SupportEvent("003", 1.0),) * (number % 2),
                updated_ms=1,
            )
            for number, user in enumerate(USERS)
        ]
    )
    assert stored == [True] * len(USERS)
    with OracleGateway(OracleBackend({1: OURS}), store, tmp_path) as gateway:
        yield gateway


def test_none_of_them_is_applied_and_each_answer_is_counted(gateway):
    expected = OURS.rank({}, ITEM_IDS)
    for user in USERS:
        answer = gateway.stub.Rank(
            pb.RankRequest(user_id=user, item_ids=ITEM_IDS)
        )
        assert answer.provenance.rung == pb.RUNG_FALLBACK
        assert answer.provenance.degraded
        assert not answer.provenance.store_hit
        assert "another fixed part" in answer.provenance.degraded_reason
        np.testing.assert_allclose(answer.scores, expected, atol=1e-5)
    counted = f'adaptower_answers_total{{model="{MODEL}",rung="fallback"}}'
    assert gateway.metrics.counters()[counted] == len(USERS)
