"""What the outer loop holds in memory, as tracemalloc counts it."""

import asyncio
import random
import tracemalloc

import pytest

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.support import SupportEvent
from serving.models.served_model import ServedModel
from serving.online.meta_lines import IDLE_SECONDS
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_memory import MemoryMetaStates
from serving.store import MemoryStore, pack_events
from serving.store.packed_events import PackedEvents
from tests.helpers.clock import Clock
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ToyParameters

CONFIG = OnlineMetaConfig()
MOST_BYTES = 8 << 20
USERS = CONFIG.max_open_users + 500


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stage(clock):
    return MetaStage(
        OracleBackend({}),
        MemoryStore(),
        CONFIG,
        MemoryMetaStates(),
        clock=clock,
    )


@pytest.fixture
def held():
    """Tells how many bytes came to be held since the test began."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


def served(seed):
    return ServedModel("m", seed, ToyParameters.from_seed(seed).manifest())


def item_id(number):
    return f"{number * 37 % 3706:04}"


def long_id(number):
    """As long as a gateway lets in."""
    return random.Random(number).randbytes(128).hex()


def give(stage, model, users=USERS, name=item_id):
    """Has users begin query sets, each after 96 events."""
    data = pack_events(
        [SupportEvent(name(number), float(number % 2)) for number in range(96)]
    )
    for user in range(users):
        # Each user's own bytes and texts, as they are read and received.
        reservoir = PackedEvents(bytes(bytearray(data)))
        events = [SupportEvent(name(user + n), 1.0) for n in range(5)]
        stage.observe(model, f"u{user}", b"told" * 25, reservoir, 200, events)


def test_unfinished_query_sets_take_few_megabytes(stage, held):
    give(stage, served(1))
    assert 1 << 20 < held() < MOST_BYTES


def test_users_with_ids_of_many_bytes_are_in_no_task(stage, held):
    give(stage, served(1), users=300, name=long_id)
    assert not any(line.collector.user_ids for line in stage._lines)
    assert held() < 1 << 20


def test_rollover_after_rollover_takes_no_more(stage, clock, held):
    for seed in range(1, 5):
        model = served(seed)
        asyncio.run(stage.look(model.name, model.manifest))
        give(stage, model)
        clock.now += IDLE_SECONDS + 1.0
    assert 1 << 20 < held() < MOST_BYTES


def test_what_is_in_use_is_not_dropped(stage, clock):
    models = [served(1), served(2)]
    give(stage, models[0], users=1)
    for _ in range(10):
        clock.now += IDLE_SECONDS / 2
        for model in models:
            asyncio.run(stage.look(model.name, model.manifest))
    (line,) = (each for each in stage._lines if each.collector.user_ids)
    assert line.collector.user_ids == {"u0"}
