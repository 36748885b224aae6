import itertools
import subprocess
import sys
import time

import pytest

from serving.errors import EventLogError, LogFullError
from serving.event_log import LmdbEventLog, LogConfig, LogEntry, LogStatus
from serving.event_log.redis_log import RedisEventLog
from serving.store.tombstone import Tombstone
from tests.contract.event_log_suite import EventLogSuite, ids, submit, user
from tests.helpers.patience import wait_until

PAGE = bytes(4096)


class CountingTransaction:
    """Counts what is looked up in a transaction."""

    def __init__(self, transaction):
        self._transaction = transaction
        self.looked_up = 0

    def get(self, *args, **options):
        self.looked_up += 1
        return self._transaction.get(*args, **options)

    def __getattr__(self, name):
        return getattr(self._transaction, name)


class TestRedisEventLog(EventLogSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server
        redis_server.clear()

    def make_log(self, tmp_path, config=None, streams=4):
        return RedisEventLog(self.server.config(), config, streams)

    def test_full_stream_refuses_its_own_users_and_no_others(self, tmp_path):
        with self.configured(tmp_path, streams=2, max_entries=4) as log:
            users = {0: [], 1: []}
            for number in range(20):
                submission = submit(0, name=f"u{number}")
                users[log._streams.shard(submission.key)].append(submission)
            log.append(users[0][:2])
            full, roomy, also_full, known = log.append(
                [users[0][2], users[1][0], users[0][3], users[1][0]],
                consumer="gateway",
            )
            assert isinstance(full, LogFullError)
            assert isinstance(also_full, LogFullError)
            assert roomy.claimed
            assert known is None
            assert ids(log.entries()) == ids([*users[0][:2], users[1][0]])
            log.ack(log.read("worker", 9))
            # It was not stored, and is taken in when there is room.
            assert ids(log.append([users[0][2]])) == ids([users[0][2]])

    def test_what_is_learned_makes_room_also_if_our_clock_is_behind(
        self, tmp_path, monkeypatch
    ):
        with self.configured(tmp_path, streams=1, max_entries=4) as log:
            log.append([submit(n) for n in range(4)])
            log.ack(log.read("c", 9))
            behind = time.time_ns() - 60 * 10**9
            monkeypatch.setattr(time, "time_ns", lambda: behind)
            assert ids(log.append([submit(4)])) == ["u1:e4"]

    def test_names_of_consumers_that_are_gone_do_not_pile_up(self, tmp_path):
        config = {"streams": 1, "lease_seconds": 0.05}
        for number in range(5):
            with self.configured(tmp_path, **config) as log:
                (entry,) = log.append([submit(number)], consumer="gateway")
                log.ack([entry])
        with self.configured(tmp_path, **config) as log:
            log.append([submit(5)], consumer="busy")

            def names():
                log.trim()
                found = self.server.client.xinfo_consumers(
                    log._streams.name(0), "online"
                )
                return [each["name"] for each in found]

            wait_until(lambda: len(names()) == 1)
            # What it holds is not lost with it.
            assert names()[0].startswith(b"busy-")
            assert ids(self.read_until(log, "worker", 1)) == ["u1:e5"]

    def test_damaged_entry_says_nothing_of_those_before_it(self, tmp_path):
        """What it was is never known; what came before it is not learned."""
        with self.configured(tmp_path, streams=1) as log:
            log.append([submit(1)], consumer="dead gateway")
            key = submit(1).key.digest
            damaged = self.server.client.xadd(
                log._streams.name(0), {b"u": key, b"h": b"?", b"e": b"?"}
            )
            self.server.client.rpush(log._streams.key("entries", key), damaged)
            assert ids(log.read("worker", 9)) == ["u1:e1"]
            (entry,) = log.append([submit(2)], consumer="gateway")
            assert not entry.claimed
            assert ids(log.read("gateway", 9)) == []


class TestLmdbEventLog(EventLogSuite):
    def make_log(self, tmp_path, config=None, streams=4):
        return LmdbEventLog(tmp_path / "log", config)

    def test_entries_survive_a_killed_process(self, tmp_path):
        program = (
            "import os, signal, sys\n"
            "from serving.event_log import LmdbEventLog\n"
            "from tests.contract.event_log_suite import submit\n"
            "log = LmdbEventLog(sys.argv[1])\n"
            "log.append([submit(1), submit(2)])\n"
            "log.read('c', 1)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        path = tmp_path / "log"
        done = subprocess.run([sys.executable, "-c", program, str(path)])
        assert done.returncode == -9
        with LmdbEventLog(path) as log:
            # What the dead consumer had is free at once.
            assert ids(log.read("c", 9)) == ["u1:e1", "u1:e2"]
            assert log.append([submit(2)]) == [None]

    def test_second_reading_process_is_told_to_use_redis(self, tmp_path):
        program = (
            "import sys\n"
            "from serving.errors import EventLogError\n"
            "from serving.event_log import LmdbEventLog\n"
            "from tests.contract.event_log_suite import submit\n"
            "log = LmdbEventLog(sys.argv[1])\n"
            "log.append([submit(1)])\n"
            "try:\n"
            "    log.read('c', 1)\n"
            "except EventLogError as error:\n"
            "    print(error)\n"
        )
        path = tmp_path / "log"
        with LmdbEventLog(path) as log:
            log.read("c", 1)
            done = subprocess.run(
                [sys.executable, "-c", program, str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert "use Redis for several" in done.stdout
            # It may append all the same.
            assert ids(log.read("c", 1, wait_seconds=5)) == ["u1:e1"]

    def test_append_looks_up_no_more_if_many_entries_of_the_user_wait(
        self, tmp_path
    ):
        def look_ups(log, number):
            def append(transaction):
                counting = CountingTransaction(transaction)
                log._appender.append(counting, [submit(number)])
                return counting.looked_up

            return log._file.write(append)

        with LmdbEventLog(tmp_path / "few") as log:
            log.append([submit(0)], consumer="gateway")
            few = look_ups(log, 1)
        with LmdbEventLog(tmp_path / "many") as log:
            waiting = log.append(
                [submit(n) for n in range(500)], consumer="gateway"
            )
            waiting += log.append([submit(500)], consumer="gateway")
            assert all(entry.claimed for entry in waiting)
            (entry,) = log.append([submit(501)], consumer="other gateway")
            assert not entry.claimed
            assert look_ups(log, 502) == few

    def test_tombstones_are_forgotten_in_short_steps(self, tmp_path):
        with LmdbEventLog(tmp_path) as log:
            over = Tombstone(0, 1).to_bytes()
            database = log._tombstones._deleted

            def bury(transaction):
                for n in range(2000):
                    transaction.put(b"%08d" % n, over, db=database)

            def num_left():
                with log._file.reading() as transaction:
                    return transaction.stat(database)["entries"]

            log.delete(user())
            log._file.write(bury)
            steps = log.trim_steps()
            assert next(steps) == 0
            assert 1000 < num_left() < 2000
            assert sum(steps) == 0
            # Of who was deleted just now.
            assert num_left() == 1

    def test_event_counts_once_also_if_the_clock_is_set_back(
        self, tmp_path, monkeypatch
    ):
        config = LogConfig(dedup_seconds=400)
        with LmdbEventLog(tmp_path, config) as log:
            for now, taken in ((1000.5, [submit(1)]), (999.5, [])):
                monkeypatch.setattr(time, "time", lambda now=now: now)
                appended = log.append([submit(1)])
                assert ids(each for each in appended if each) == ids(taken)

    def test_full_file_says_so_and_loses_nothing(self, tmp_path):
        with LmdbEventLog(tmp_path, LogConfig(map_bytes=1 << 18)) as log:
            taken = []
            for n in itertools.count():
                (told,) = log.append([submit(n, features=PAGE)])
                if isinstance(told, LogFullError):
                    break
                taken.extend(ids([told]))
            assert "--log-map-bytes" in str(told)
            assert ids(log.entries()) == taken

    @pytest.mark.parametrize(
        ("keep_seconds", "learns"), [(0, False), (0.01, False), (0.01, True)]
    )
    def test_full_file_has_room_again_when_all_is_learned(
        self, tmp_path, keep_seconds, learns
    ):
        config = LogConfig(map_bytes=1 << 18, keep_seconds=keep_seconds)
        with LmdbEventLog(tmp_path, config) as log:
            numbers = itertools.count()
            while isinstance(log.append([submit(next(numbers))])[0], LogEntry):
                if learns:
                    log.ack(log.read("c", 1))
            while entries := log.read("c", 1000):
                log.ack(entries)
            time.sleep(keep_seconds)
            log.trim()
            assert log.status() == LogStatus(0, 0)
            taken = log.append([submit(next(numbers)) for _ in range(20)])
            assert all(isinstance(each, LogEntry) for each in taken)

    def test_log_that_can_not_be_written_any_more_closes_all_the_same(
        self, tmp_path, monkeypatch
    ):
        def fail(*_):
            raise EventLogError("the disk is gone")

        log = LmdbEventLog(tmp_path)
        log.append([submit(1)])
        log.ack(log.read("c", 9))
        monkeypatch.setattr(log._file, "write", fail)
        log.close()
        with LmdbEventLog(tmp_path) as log:
            # That it was learned is not known, and told once more.
            assert ids(log.read("c", 9)) == ["u1:e1"]

    def test_damaged_entry_is_left_out(self, tmp_path, caplog):
        with LmdbEventLog(tmp_path) as log:
            entry, _ = log.append([submit(1), submit(2)])
            position = entry.position.to_bytes(8, "big")
            log._file.write(
                lambda t: t.put(position, b"x", db=log._stored._entries)
            )
            assert ids(log.events_of(entry.key)) == ["u1:e2"]
            assert ids(log.entries()) == ["u1:e2"]
            assert ids(log.read("c", 9)) == ["u1:e2"]
            assert "damaged" in caplog.text

    def test_folder_that_is_a_file_is_a_clear_error(self, tmp_path):
        path = tmp_path / "log"
        path.write_text("not a folder")
        with pytest.raises(EventLogError, match=str(path)):
            LmdbEventLog(path)
