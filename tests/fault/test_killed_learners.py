"""Learners killed in the midst of their work: each event is learned once."""

import itertools
import threading

import pytest

from serving.event_log import LoggedEvent, Submission
from tests.helpers.killed_writers import (
    history,
    kill_one_learner,
    learn,
    open_both,
    user_key,
)
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault

USERS = 3
# A learner works at most until they are learned.
PER_ROUND = 12


@pytest.fixture(params=["lmdb", "redis"])
def place(request, tmp_path):
    if request.param == "lmdb":
        yield tmp_path
        return
    server = RunningRedis()
    yield server.url
    server.close()


def append(log, numbers):
    """Appends one event of each number; users take turns."""
    for number in numbers:
        event = LoggedEvent(f"e{number}", str(number), 1.0, number)
        submission = Submission(user_key(number % USERS), (event,))
        # A sender that got no answer sends it again.
        log.append([submission])
        assert log.append([submission]) == [None]


def test_each_event_is_learned_once_in_order(place, rounds):
    store, log = open_both(place)
    numbers = itertools.count()
    with store, log:
        for number in range(rounds):
            batch = list(itertools.islice(numbers, PER_ROUND))
            appending = threading.Thread(target=append, args=(log, batch))
            appending.start()
            for _, user, position in kill_one_learner(place, number):
                # What was acknowledged is in the record.
                record = store.get(user_key(user))
                assert record.log_position >= position
            appending.join()
        while log.status().unlearned:
            entries = log.read("last", 100, wait_seconds=60.0)
            assert entries
            for entry in entries:
                learn(store, entry)
            log.ack(entries)
        for user in range(USERS):
            record = store.get(user_key(user))
            sent = range(user, rounds * PER_ROUND, USERS)
            assert record.support_count == len(sent)
            assert record.features == history(map(str, sent))
