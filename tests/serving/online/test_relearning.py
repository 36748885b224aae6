"""What is learned from again, compared with the record written out by hand."""

import dataclasses

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.event_log.entry import LogEntry, LoggedEvent
from serving.online.relearning import MAX_EVENTS, Relearning, is_behind
from serving.store import UserKey, UserRecord, fingerprint_digest
from serving.store.record_bytes import encode_record
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyParameters

OLD, NEW = (ToyParameters.from_seed(seed) for seed in (1, 2))
KEY = UserKey("adaptower", "u")
EVENTS = tuple(SupportEvent(f"{n:03d}", float(n % 2)) for n in range(4))
NEW_WEIGHTS = np.arange(NUM_ADAPTIVE, dtype=np.float32)


@pytest.fixture
def record():
    return UserRecord(
        key=KEY,
        fingerprint=fingerprint_digest(OLD.fingerprint),
        sequence=3,
        support_count=6,
        weights=np.ones(NUM_ADAPTIVE, np.float32),
        reservoir=EVENTS,
        updated_ms=1_700_000_000_000,
        log_position=20,
        features=b"told",
    )


def relearning(record, parameters=NEW, logged=()):
    return Relearning.of(
        record, parameters.manifest(), parameters.meta_init, logged
    )


def logged(position, *item_ids):
    events = tuple(LoggedEvent(i, i, 1.0) for i in item_ids)
    return LogEntry(position, KEY, events)


def test_a_new_version_starts_at_its_meta_init_with_all_events_kept(record):
    task = relearning(record)
    np.testing.assert_array_equal(task.start, NEW.meta_init)
    assert task.support.events == EVENTS
    assert task.support.count == record.support_count == 6


def test_the_next_record_has_the_new_weights_first_and_the_old_ones_kept(
    record,
):
    after = relearning(record).learned(NEW_WEIGHTS, True)
    found = after.weights_for(NEW.fingerprint, NUM_ADAPTIVE)
    np.testing.assert_array_equal(found.weights, NEW_WEIGHTS)
    assert after.fingerprint == fingerprint_digest(NEW.fingerprint)
    old = after.weights_for(OLD.fingerprint, NUM_ADAPTIVE)
    np.testing.assert_array_equal(old.weights, record.weights)
    assert (old.support_count, found.support_count) == (6, 6)
    # Only that changed, and nobody heard of the user.
    unchanged = dataclasses.replace(
        after,
        fingerprint=record.fingerprint,
        sequence=3,
        weights=record.weights,
        earlier=(),
    )
    assert encode_record(unchanged) == encode_record(record)


def test_a_second_time_there_is_nothing_to_learn(record):
    after = relearning(record).learned(NEW_WEIGHTS, True)
    assert relearning(after) is None
    assert not is_behind(after, NEW.manifest())
    assert not is_behind(after, OLD.manifest())


def test_after_a_rollback_learning_goes_on_from_the_old_weights(record):
    rebased = relearning(record).learned(NEW_WEIGHTS, True)
    # One more event under the new version.
    later = dataclasses.replace(
        rebased,
        sequence=5,
        support_count=7,
        reservoir=(*EVENTS, SupportEvent("007", 1.0)),
    )
    assert not is_behind(later, NEW.manifest())
    task = relearning(later, OLD)
    np.testing.assert_array_equal(task.start, record.weights)
    assert task.support.count == 7
    after = task.learned(NEW_WEIGHTS + 1, True)
    assert relearning(after, OLD) is None
    assert relearning(after, NEW) is None


def test_the_log_supplements_the_reservoir_up_to_what_was_learned(record):
    entries = [
        logged(10, "a", "b", "c"),
        logged(20, "d", "e"),
        logged(21, "not learned yet"),
    ]
    task = relearning(record, logged=entries)
    assert [e.item_id for e in task.support.events] == ["a", "b", "c", "d", "e"]
    assert task.support.count == 6
    assert task.support.reservoir == task.support.events


@pytest.mark.parametrize(
    "entries",
    [
        [logged(20, "a", "b", "c")],
        # More than were seen: some were left out, and who knows which.
        [logged(20, *"abcdefg")],
        [logged(21, *"abcde")],
    ],
)
def test_the_reservoir_counts_where_the_log_holds_less_or_too_much(
    record, entries
):
    assert relearning(record, logged=entries).support.events == EVENTS


def test_a_long_log_is_cut_to_the_newest_events(record):
    record = dataclasses.replace(record, support_count=10_000)
    items = [str(number) for number in range(MAX_EVENTS + 9)]
    task = relearning(record, logged=[logged(1, *items)])
    assert [e.item_id for e in task.support.events] == items[9:]
    assert task.support.count == 10_000


def test_a_smaller_reservoir_of_the_new_version_costs_no_events(record):
    manifest = dataclasses.replace(NEW.manifest(), reservoir_events=2)
    task = Relearning.of(record, manifest, NEW.meta_init)
    assert task.support.reservoir == EVENTS


def test_nothing_is_learned_from_no_events(record):
    assert relearning(dataclasses.replace(record, reservoir=())) is None


@pytest.mark.parametrize(
    "weights",
    [
        np.full(NUM_ADAPTIVE, np.nan),
        np.full(NUM_ADAPTIVE, 1e6),
        np.ones(NUM_ADAPTIVE + 1),
    ],
    ids=["not finite", "too large for float16", "of another shape"],
)
def test_weights_that_cant_be_stored_make_no_record(record, weights):
    half = dataclasses.replace(record, weights=record.weights.astype("<f2"))
    assert relearning(half).learned(weights, True) is None


def test_what_the_guard_put_in_place_of_nonsense_makes_no_record(record):
    """The user would pass for learned, and nobody would try again."""
    task = relearning(record)
    assert task.learned(task.start, False) is None
    assert task.learned(task.start, True) is not None
