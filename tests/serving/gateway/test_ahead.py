"""What is ready when a version begins to serve."""

import asyncio
import dataclasses

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.errors import BackendError
from serving.event_log import LogConfig
from serving.event_log.config import open_event_log
from serving.gateway import ahead as ahead_module
from serving.gateway import kept_vectors as kept_vectors_module
from serving.gateway import scoring as scoring_module
from serving.gateway.ahead import Ahead
from serving.gateway.batcher import RankBatcher
from serving.gateway.ranker import Ranker
from serving.gateway.scoring import Scoring
from serving.metrics import Metrics
from serving.models.ladder import Ladder
from serving.models.served_model import ServedModel
from serving.online.adapting import Adapting
from serving.online.stragglers import Stragglers
from serving.store import (
    MemoryStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from serving.store.config import StoreConfig
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE, ToyOracle

ORACLES = {version: ToyOracle.from_seed(version) for version in (1, 2, 3)}
OLD, NEW, NEWER = (
    ServedModel("shop", version, oracle.parameters.manifest())
    for version, oracle in ORACLES.items()
)
ITEMS = ["003", "001"]
FEATURES = {"age": 30.0, "tags": ["war"]}


class Gateway:
    """What answers Ranks, over the oracle."""

    def __init__(self):
        self.backend = OracleBackend(dict(ORACLES))
        self.store = MemoryStore()
        self.ladder = Ladder()
        self.relearned = []
        self.scoring = Scoring(RankBatcher(self.backend), 100, Metrics())
        self.kept = self.scoring.kept
        self.ranker = Ranker(self.backend, self.scoring)
        log = open_event_log(StoreConfig(), LogConfig())
        stragglers = Stragglers(
            Adapting(self.backend),
            self.store,
            log,
            lambda _, outcome, count: self.relearned.append((outcome, count)),
        )
        self.ahead = Ahead(self.scoring, self.store, self.ladder, stragglers)

    def know(self, user_id, models=(OLD,)):
        """Gives somebody weights of these versions."""
        random = np.random.default_rng(list(user_id.encode()))
        record = None
        for number, model in enumerate(models):
            fingerprint = fingerprint_digest(model.manifest.fingerprint)
            record = UserRecord(
                key=UserKey("shop", user_id),
                fingerprint=fingerprint,
                sequence=number + 1,
                support_count=2,
                weights=random.normal(size=NUM_ADAPTIVE).astype(np.float32),
                reservoir=tuple(
                    SupportEvent(item_id, float(random.integers(2)))
                    for item_id in random.choice(ITEM_IDS, 2, replace=False)
                ),
                updated_ms=1_700_000_000_000,
                log_position=1,
                earlier=record.earlier_than(fingerprint) if record else (),
            )
            assert self.store.compare_and_put(record)

    def rank(self, model, user_id, features=FEATURES):
        """Ranks and checks the scores; returns what had to be asked for."""
        self.backend.calls.clear()

        async def run():
            user = await self.ladder.read(self.store, model, user_id)
            ranking = await self.ranker.rank(model, user, ITEMS, features)
            return user, ranking

        user, ranking = asyncio.run(run())
        np.testing.assert_allclose(
            ranking.scores,
            ORACLES[model.version].rank(features, ITEMS, user.weights),
            atol=1e-5,
        )
        return self.backend.calls.copy()

    def prepare(self, model):
        """Gets ready; returns what had to be asked for."""
        self.backend.calls.clear()
        asyncio.run(self.ahead.prepare(model))
        return self.backend.calls.copy()


@pytest.fixture
def gateway():
    return Gateway()


def test_users_met_lately_are_learned_and_need_no_model_server(gateway):
    for user_id in ("ann", "bob"):
        gateway.know(user_id)
        gateway.rank(OLD, user_id)
    # Items; weights of both users; vectors of both.
    assert gateway.prepare(NEW) == ["embed", "adapt", "embed"]
    assert gateway.relearned.count(("learned", 2)) == 1
    for user_id in ("ann", "bob"):
        record = gateway.store.get(UserKey("shop", user_id))
        learned = record.weights_for(NEW.manifest.fingerprint, NUM_ADAPTIVE)
        assert not np.allclose(learned.weights, NEW.meta_init)
        assert gateway.rank(NEW, user_id) == []
    assert gateway.prepare(NEW) == []


def test_users_who_were_rebased_are_only_asked_for(gateway):
    gateway.know("ann", (OLD, NEW))
    gateway.rank(OLD, "ann")
    assert gateway.prepare(NEW) == ["embed", "embed"]
    assert gateway.relearned == []
    assert gateway.rank(NEW, "ann") == []


def test_strangers_are_expected_with_what_they_told(gateway):
    others = {"age": 50.0}
    for features in (FEATURES, others):
        gateway.rank(OLD, "", features)
    gateway.prepare(NEW)
    for features in (FEATURES, others):
        assert gateway.rank(NEW, "", features) == []


def test_who_was_never_met_or_only_expected_is_not_expected_again(gateway):
    for user_id in ("ann", "bob"):
        gateway.know(user_id, (OLD, NEW, NEWER))
        gateway.rank(OLD, user_id)
    gateway.prepare(NEW)
    assert gateway.rank(NEW, "ann") == []
    # By now the first version is forgotten, and Bob did not come.
    for version in [v for v in gateway.kept._versions if v.version == 1]:
        del gateway.kept._versions[version]
    gateway.prepare(NEWER)
    assert gateway.rank(NEWER, "ann") == []
    assert gateway.rank(NEWER, "bob") == ["embed"]


def test_who_was_deleted_is_not_expected(gateway):
    gateway.know("ann")
    gateway.rank(OLD, "ann")
    # By another gateway: this one still remembers her.
    gateway.store.delete(UserKey("shop", "ann"))
    assert gateway.prepare(NEW) == ["embed"]
    assert not any(kept.has_users for _, kept in gateway.kept._others(OLD))


def test_who_is_deleted_while_others_are_learned_is_not_kept(gateway):
    """Nor what strangers told, who may be the same."""
    gateway.know("ann")
    gateway.know("bob", (OLD, NEW))
    for user_id in ("ann", "bob", ""):
        gateway.rank(OLD, user_id)
    predict = gateway.backend.predict

    async def answer(model, version, signature, inputs):
        if signature == "adapt":
            gateway.store.delete(UserKey("shop", "bob"))
            gateway.kept.forget_users()
        return await predict(model, version, signature, inputs)

    gateway.backend.predict = answer
    gateway.prepare(NEW)
    assert gateway.relearned.count(("learned", 1)) == 1
    assert not gateway.kept.of(NEW).has_users


def test_preparations_end_when_those_who_were_met_are_forgotten(
    gateway, monkeypatch
):
    monkeypatch.setattr(ahead_module, "_USERS", 1)
    for age in range(3):
        gateway.rank(OLD, "", {"age": float(age)})
    expect, expected = gateway.ahead._expect, []

    async def forget(model, met, forgotten):
        await expect(model, met, forgotten)
        expected.extend(each.features["age"] for each in met)
        if len(expected) == 2:
            gateway.kept.forget_users()

    gateway.ahead._expect = forget
    gateway.prepare(NEW)
    assert expected == [2.0, 1.0]
    assert not gateway.kept.of(NEW).has_users


def test_who_came_last_is_not_pushed_out_by_those_who_came_before(
    gateway, monkeypatch
):
    for module in (ahead_module, kept_vectors_module):
        monkeypatch.setattr(module, "MAX_USERS", 8)
    for number in range(8):
        gateway.know(str(number), (OLD, NEW))
        gateway.rank(OLD, str(number))
    gateway.prepare(NEW)
    gateway.rank(NEW, "", {"age": 99.0})
    assert gateway.rank(NEW, "7") == []


def test_versions_of_other_features_tell_nothing_of_users(gateway):
    gateway.rank(OLD, "")
    features = NEW.manifest.user_features[:-1]
    other = dataclasses.replace(
        NEW, manifest=dataclasses.replace(NEW.manifest, user_features=features)
    )
    assert [*gateway.kept.users_met(NEW)]
    assert [*gateway.kept.users_met(other)] == []


def test_many_are_made_ready_a_few_at_a_time_with_rests(gateway, monkeypatch):
    monkeypatch.setattr(ahead_module, "_USERS", 2)
    rests = []
    sleep = asyncio.sleep

    async def rest(seconds):
        rests.append(seconds)
        await sleep(0)

    for number in range(5):
        gateway.know(str(number))
        gateway.rank(OLD, str(number))
    monkeypatch.setattr(ahead_module.asyncio, "sleep", rest)
    assert gateway.prepare(NEW).count("embed") == 1 + 3
    learned = [n for outcome, n in gateway.relearned if outcome == "learned"]
    assert learned == [2, 2, 1]
    assert len([seconds for seconds in rests if seconds > 0]) == 3


def test_switch_waits_neither_for_one_in_trouble_nor_for_long(
    gateway, monkeypatch
):
    monkeypatch.setattr(ahead_module, "_AHEAD_SECONDS", 0.05)
    gateway.rank(OLD, "")
    predict = gateway.backend.predict

    async def refuse(*_):
        raise BackendError("no")

    async def hang(*_):
        await asyncio.Event().wait()

    for trouble in (refuse, hang):
        gateway.backend.predict = trouble
        gateway.prepare(NEW)
        gateway.backend.predict = predict
    assert gateway.rank(NEW, "") == ["embed"]


def test_users_who_can_not_be_learned_are_asked_for_as_they_are(gateway):
    gateway.know("ann")
    gateway.rank(OLD, "ann")
    predict = gateway.backend.predict

    async def fail(model, version, signature, inputs):
        if signature == "adapt":
            raise BackendError("no")
        return await predict(model, version, signature, inputs)

    gateway.backend.predict = fail
    gateway.prepare(NEW)
    assert gateway.relearned == [("failed", 1)]
    assert gateway.rank(NEW, "ann") == []


class Told(dict):
    """Features that count how often somebody looks through them."""

    looks = 0

    def __repr__(self):
        Told.looks += 1
        return super().__repr__()


def test_those_who_were_met_are_looked_through_as_they_are_taken(gateway):
    for age in range(9):
        gateway.rank(OLD, "", Told(age=float(age)))
    Told.looks = 0
    met = gateway.kept.users_met(NEW)
    assert Told.looks == 0
    assert next(met).features == {"age": 8.0}
    assert Told.looks == 1
    # Whoever comes meanwhile is none of them.
    gateway.rank(OLD, "", {"age": 99.0})
    assert [each.features["age"] for each in met] == [*range(7, -1, -1)]


def test_items_are_looked_through_as_they_are_asked_for(gateway, monkeypatch):
    looks, found = [], []

    class Items(list):
        def __iter__(self):
            for item_id in super().__iter__():
                looks.append(item_id)
                yield item_id

    monkeypatch.setattr(scoring_module, "MAX_SHARED_CANDIDATES", 1)
    kept = kept_vectors_module.KeptVectors
    monkeypatch.setattr(kept, "item_ids", property(lambda k: Items(k._row)))
    gateway.rank(OLD, "")
    gateway.rank(NEWER, "")
    predict = gateway.backend.predict

    async def answer(*arguments):
        found.append(len(looks))
        return await predict(*arguments)

    gateway.backend.predict = answer
    asyncio.run(gateway.scoring.ask_for_items(NEW))
    # Each is asked for once, though it is kept of two versions.
    assert found == [1, 2]
    assert looks == [*ITEMS, *ITEMS]


def test_nothing_is_prepared_where_nothing_is_kept(gateway):
    gateway.scoring._max_items = 0
    assert gateway.prepare(NEW) == []
