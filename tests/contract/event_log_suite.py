"""What every `EventLog` must do; subclass it per implementation."""

import dataclasses
import threading
from collections.abc import Iterator

import pytest

from serving.errors import DeletedUserError, EventLogError, LogFullError
from serving.event_log import (
    EventLog,
    LogConfig,
    LogEntry,
    LoggedEvent,
    Submission,
)
from serving.store import UserKey
from serving.store.tombstone import now_ms
from tests.helpers.patience import wait_until


def user(name: str = "u1") -> UserKey:
    return UserKey("adaptower", name)


def submit(
    *numbers: int, name: str = "u1", features: bytes = b""
) -> Submission:
    events = tuple(
        LoggedEvent(f"e{n}", f"item-{n}", float(n % 2), 1_700_000_000 + n)
        for n in numbers
    )
    return Submission(user(name), events, features)


def ids(entries) -> list[str]:
    """What was delivered, in one list of user and event ids."""
    return [
        f"{entry.key.user_id}:{event.event_id}"
        for entry in entries
        for event in entry.events
    ]


class EventLogSuite:
    """Tests; subclasses say how to make a log."""

    @pytest.fixture
    def log(self, tmp_path) -> Iterator[EventLog]:
        with self.make_log(tmp_path) as log:
            yield log

    def make_log(
        self, tmp_path, config: LogConfig | None = None, streams: int = 4
    ) -> EventLog:
        """Opens a log; of so many streams, if that means anything to it."""
        raise NotImplementedError

    def configured(self, tmp_path, streams=4, **changes) -> EventLog:
        return self.make_log(tmp_path, LogConfig(**changes), streams)

    def test_appended_events_are_read_back_whole(self, log):
        odd = LoggedEvent("é\0", "", 0.3, 0)
        submission = Submission(user("ü\0"), (odd,), b"\0features\xff")
        (appended,) = log.append([submission])
        (read,) = log.read("c", 10)
        assert read == appended
        assert (read.key, read.events, read.features) == (
            submission.key,
            submission.events,
            submission.features,
        )

    def test_entries_come_in_their_order_and_once(self, log):
        for n in range(5):
            log.append([submit(n)])
        assert ids(log.read("c", 2)) == ["u1:e0", "u1:e1"]
        assert ids(log.read("c", 9)) == ["u1:e2", "u1:e3", "u1:e4"]
        assert log.read("c", 9) == []

    def test_positions_of_a_user_grow(self, log):
        appended = log.append([submit(n) for n in range(50)])
        appended += [log.append([submit(50 + n)])[0] for n in range(5)]
        positions = [entry.position for entry in appended]
        assert positions == sorted(set(positions))

    def test_known_event_ids_are_left_out(self, log):
        (first,) = log.append([submit(1, 2)])
        again, partly, inside = log.append(
            [submit(2, 1), submit(2, 3), submit(4, 4)]
        )
        assert first.events == submit(1, 2).events
        assert again is None
        assert partly.events == submit(3).events
        assert inside.events == submit(4).events
        assert ids(log.read("c", 9)) == ["u1:e1", "u1:e2", "u1:e3", "u1:e4"]

    def test_event_ids_of_users_and_models_keep_apart(self, log):
        submissions = [
            dataclasses.replace(submit(1), key=UserKey(*key))
            for key in (("m", "u"), ("m", "v"), ("n", "u"))
        ]
        assert None not in log.append(submissions)

    def test_event_ids_stay_known_after_the_entry_is_gone(self, tmp_path):
        with self.configured(tmp_path, keep_seconds=0) as log:
            log.append([submit(1)])
            log.ack(log.read("c", 1))
            log.trim()
            assert log.append([submit(1)]) == [None]

    def test_event_ids_are_forgotten_after_the_window(self, tmp_path):
        with self.configured(tmp_path, dedup_seconds=0.2) as log:
            log.append([submit(1)])
            wait_until(lambda: log.append([submit(1)]) != [None])

    def test_acknowledged_entries_are_not_delivered_again(self, tmp_path):
        with self.configured(tmp_path, lease_seconds=0.2) as log:
            log.append([submit(n, name=f"u{n}") for n in range(4)])
            late, *others = log.read("a", 9)
            log.ack(others)
            assert log.status().unlearned == 1
            assert self.read_until(log, "b", 1) == [late]
            log.ack([late])
            assert log.read("a", 9) == []

    def test_entries_of_a_dead_consumer_go_to_another_in_order(self, tmp_path):
        with self.configured(tmp_path, lease_seconds=0.3) as log:
            for n in range(3):
                log.append([submit(n)])
            assert len(log.read("dead", 2)) == 2
            claimed = self.read_until(log, "alive", 3)
            # On a busy machine its own lease may end, too.
            assert [*dict.fromkeys(ids(claimed))] == ["u1:e0", "u1:e1", "u1:e2"]

    def read_until(self, log, consumer, count) -> list[LogEntry]:
        """Reads until so many entries came, across leases that end."""
        found: list[LogEntry] = []

        def enough() -> bool:
            found.extend(log.read(consumer, count))
            return len({entry.position for entry in found}) >= count

        wait_until(enough)
        return found

    def test_user_is_with_one_consumer_at_a_time(self, log):
        log.append([submit(1)])
        log.read("a", 9)
        log.append([submit(2), submit(1, name="u2")])
        assert "u1:e2" not in ids(log.read("b", 9))
        assert "u1:e2" in ids(log.read("a", 9))

    def test_waiting_reader_gets_what_comes(self, log):
        found: list[LogEntry] = []
        reader = threading.Thread(
            target=lambda: found.extend(log.read("c", 9, wait_seconds=20))
        )
        reader.start()
        log.append([submit(1)])
        reader.join(timeout=60)
        assert ids(found) == ["u1:e1"]

    def test_reader_waits_no_longer_than_it_says(self, log):
        assert log.read("c", 9, wait_seconds=0.05) == []

    def test_appender_may_claim_its_own_entry(self, log):
        (entry,) = log.append([submit(1)], consumer="gateway")
        assert entry.claimed
        assert log.read("worker", 9) == []
        log.ack([entry])
        assert log.status().unlearned == 0

    def test_claimed_entries_of_the_dead_are_delivered(self, tmp_path):
        with self.configured(tmp_path, lease_seconds=0.2) as log:
            log.append([submit(1)], consumer="gateway")
            assert ids(self.read_until(log, "worker", 1)) == ["u1:e1"]

    def test_nothing_is_claimed_past_what_waits(self, log):
        log.append([submit(1)])
        (entry,) = log.append([submit(2)], consumer="gateway")
        assert not entry.claimed
        assert ids(log.read("worker", 9)) == ["u1:e1", "u1:e2"]

    def test_nothing_is_claimed_past_what_another_has(self, log):
        log.append([submit(1)], consumer="gateway")
        (entry,) = log.append([submit(2)], consumer="other gateway")
        assert not entry.claimed

    def test_nothing_is_read_past_what_another_has(self, log):
        """It would be learned first, and the other one count as learned."""
        (first,) = log.append([submit(1)], consumer="gateway")
        log.append([submit(2)])
        # It is kept back, or comes with what the other one has.
        assert ids(log.read("worker", 9)) in ([], ["u1:e1", "u1:e2"])
        log.ack([first])
        log.append([submit(3)])
        assert ids(log.read("worker", 9))[-1] == "u1:e3"

    def test_events_of_a_user_are_all_that_is_held(self, tmp_path):
        with self.configured(tmp_path, keep_seconds=3600) as log:
            for n in range(4):
                log.append([submit(n), submit(n, name="u2")])
            log.ack(log.read("c", 3))
            log.trim()
            found = log.events_of(user())
            assert ids(found) == [f"u1:e{n}" for n in range(4)]
            assert log.events_of(user("nobody")) == []

    def test_replay_yields_everything_from_the_start(self, log):
        submissions = [submit(n, name=f"u{n % 7}") for n in range(700)]
        log.append(submissions)
        log.ack(log.read("c", 100))
        entries = list(log.entries())
        assert len(entries) == 700
        for place in range(7):
            assert ids(e for e in entries if e.key == user(f"u{place}")) == [
                f"u{place}:e{n}" for n in range(place, 700, 7)
            ]

    def test_trim_drops_learned_entries_only(self, tmp_path):
        with self.configured(tmp_path, keep_seconds=0) as log:
            log.append([submit(n, name=f"u{n}") for n in range(10)])
            learned = log.read("c", 6)
            log.ack(learned)
            log.trim()
            assert log.status().entries == log.status().unlearned == 4
            left = {f"u{n}:e{n}" for n in range(10)} - set(ids(learned))
            assert set(ids(log.entries())) == left
            for entry in learned:
                assert log.events_of(entry.key) == []

    def test_deleted_user_leaves_nothing_and_stays_away(self, tmp_path):
        with self.configured(tmp_path, tombstone_seconds=3600) as log:
            log.append([submit(1), submit(2), submit(1, name="u2")])
            before = now_ms()
            removed, tombstone = log.delete(user())
            assert removed == 2
            assert before <= tombstone.deleted_ms <= now_ms()
            assert tombstone.expires_ms == tombstone.deleted_ms + 3_600_000
            assert log.events_of(user()) == []
            assert ids(log.entries()) == ["u2:e1"]
            refused, taken = log.append([submit(3), submit(3, name="u2")])
            assert isinstance(refused, DeletedUserError)
            assert taken.events == submit(3).events
            assert ids(log.read("c", 9)) == ["u2:e1", "u2:e3"]
        with self.configured(tmp_path, tombstone_seconds=0.1) as log:
            # Deleting again renews the tombstone: here, it ends at once.
            log.delete(user())
            wait_until(lambda: isinstance(log.append([submit(9)])[0], LogEntry))

    def test_what_was_deleted_under_way_counts_as_nothing(self, log):
        log.append([submit(1), submit(2), submit(1, name="u2")])
        entries = log.read("c", 9)
        log.delete(user())
        log.ack([entry for entry in entries if entry.key == user()])
        status = log.status()
        assert (status.entries, status.unlearned) == (1, 1)

    def test_what_is_kept_for_ever_is_not_trimmed(self, tmp_path):
        with self.configured(tmp_path, keep_seconds=1e12) as log:
            log.append([submit(1)])
            log.ack(log.read("c", 1))
            assert log.trim() == 0
            assert log.status().entries == 1

    def test_unknown_user_can_be_deleted(self, log):
        removed, _ = log.delete(user("nobody"))
        assert removed == 0

    def test_full_log_refuses_what_is_new_and_loses_nothing(self, tmp_path):
        # How much a log holds is counted by stream.
        with self.configured(tmp_path, streams=1, max_entries=5) as log:
            log.append([submit(n) for n in range(4)])
            refused = log.append([submit(4), submit(5)])
            assert [type(each) for each in refused] == [LogFullError] * 2
            assert "no more than 5" in str(refused[0])
            assert log.status().entries == 4
            log.append([submit(4)])
            learned = log.read("c", 2)
            log.ack(learned)
            # What is learned makes room, and what was refused is not known.
            appended = log.append([submit(5), submit(6)])
            assert ids(appended) == ["u1:e5", "u1:e6"]
            assert ids(log.entries()) == [f"u1:e{n}" for n in range(2, 7)]

    def test_each_submission_is_told_whether_it_was_stored(self, tmp_path):
        first = [submit(0, name=f"u{n}") for n in range(10)]
        late = [submit(0, name=f"u{n}") for n in range(10, 13)]
        with self.configured(tmp_path, streams=2, max_entries=12) as log:
            told = [log.append([each], consumer="c")[0] for each in first]
            told += log.append(late, consumer="c")
            stored = [each for each in told if isinstance(each, LogEntry)]
            refused = [
                submission
                for submission, each in zip([*first, *late], told, strict=True)
                if isinstance(each, LogFullError)
            ]
            assert refused
            assert len(refused) + len(stored) == len(told)
            assert sorted(ids(log.entries())) == sorted(ids(stored))
            # Nothing waits for whoever was not told of it.
            assert all(entry.claimed for entry in stored)
            assert log.read("other", 99) == []
            log.ack(stored)
            again = [log.append([each])[0] for each in refused]
            assert [each.key for each in again] == [s.key for s in refused]

    def test_racing_producers_and_consumers_lose_nothing(self, log):
        threads, learned = 4, []

        def produce(name):
            for n in range(25):
                log.append([submit(n, name=f"u{name}"), submit(n, name="all")])

        def consume(name):
            while len(learned) < threads * 25 + 25:
                entries = log.read(f"c{name}", 7, wait_seconds=0.05)
                learned.extend(ids(entries))
                log.ack(entries)

        running = [
            threading.Thread(target=work, args=(name,), daemon=True)
            for work in (produce, consume)
            for name in range(threads)
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(timeout=60)
        assert len(learned) == len(set(learned)) == threads * 25 + 25
        for name in range(threads):
            own = [e for e in learned if e.startswith(f"u{name}:")]
            assert own == [f"u{name}:e{n}" for n in range(25)]

    def test_closed_log_refuses_events(self, log):
        log.close()
        log.close()
        with pytest.raises(EventLogError):
            log.append([submit(1)])
