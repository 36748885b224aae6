"""Workers killed in the midst of learning: each event is learned once."""

import random
import time

import pytest

from serving.contract.support import SupportEvent
from serving.event_log import LogConfig, LoggedEvent, Submission
from serving.event_log.config import open_event_log
from serving.launch import start_worker
from serving.store import UserKey
from serving.store.config import StoreConfig, open_store
from tests.helpers.oracle_model_server import save_manifests
from tests.helpers.patience import wait_until
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ITEM_IDS

pytestmark = pytest.mark.fault

USERS = 20
PER_ROUND = 40
RESERVOIR = 16


@pytest.fixture(params=["lmdb", "redis"])
def location(request, tmp_path):
    if request.param == "lmdb":
        yield str(tmp_path / "store")
        return
    server = RunningRedis()
    yield server.url
    server.close()


def event_of(number):
    item_id = ITEM_IDS[number % len(ITEM_IDS)]
    return LoggedEvent(f"e{number}", item_id, float(number % 3 == 0), number)


def test_killed_workers_learn_each_event_once_and_in_order(
    location, model_server, tmp_path, rounds
):
    save_manifests(tmp_path / "models", "adaptower")
    model_server.delay = 0.01
    sent = {UserKey("adaptower", f"u{n}"): [] for n in range(USERS)}

    def worker():
        return start_worker(
            model_server.target,
            {"adaptower": tmp_path / "models"},
            location,
            tmp_path / "worker.log",
            ["--log-lease-seconds=1", "--meta-update=off"],
        )

    config = StoreConfig(location)
    drawn = random.Random(5)
    with (
        open_store(config) as store,
        open_event_log(config, LogConfig()) as log,
    ):

        def learned():
            return sum(r.support_count for r in store.iterate("adaptower"))

        for number in range(rounds * PER_ROUND):
            key = drawn.choice([*sent])
            sent[key].append(event_of(number))
            log.append([Submission(key, (event_of(number),))])
            if (number + 1) % PER_ROUND:
                continue
            running = worker()
            enough = model_server.calls + drawn.randint(0, 3)
            deadline = time.monotonic() + 20
            while model_server.calls < enough and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(drawn.uniform(0.0, 0.02))
            running.process.kill()
            running.process.wait()
        with worker():
            wait_until(lambda: learned() >= rounds * PER_ROUND)
            # What a killed worker had learned, but not said so, is said by
            # this one once the other's lease has run out.
            wait_until(lambda: log.status().unlearned == 0)
        for key, events in sent.items():
            if not events:
                continue
            record = store.get(key)
            assert record.support_count == len(events)
            assert record.reservoir == tuple(
                SupportEvent(e.item_id, e.label) for e in events[-RESERVOIR:]
            )
            assert record.log_position == log.events_of(key)[-1].position
