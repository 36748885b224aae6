import itertools
import subprocess
import sys

import pytest

from serving.errors import EventLogError, LogFullError
from serving.event_log import LmdbEventLog, LogConfig
from serving.event_log.redis_log import RedisEventLog
from tests.contract.event_log_suite import EventLogSuite, ids, submit
from tests.helpers.redis_server import RunningRedis

PAGE = bytes(4096)


@pytest.fixture(scope="module")
def redis_server():
    server = RunningRedis()
    yield server
    server.close()


class TestRedisEventLog(EventLogSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server
        redis_server.clear()

    def make_log(self, tmp_path, config=None):
        # How much a log holds is counted by stream.
        shards = 1 if config and config.max_entries < 100 else 4
        return RedisEventLog(self.server.config(), config, shards)


class TestLmdbEventLog(EventLogSuite):
    def make_log(self, tmp_path, config=None):
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

    def test_full_file_says_so_and_loses_nothing(self, tmp_path):
        with LmdbEventLog(tmp_path, LogConfig(map_bytes=1 << 18)) as log:
            taken = []
            numbers = itertools.count()

            def append_until_full():
                for n in numbers:
                    taken.extend(ids(log.append([submit(n, features=PAGE)])))

            with pytest.raises(LogFullError, match="--log-map-bytes"):
                append_until_full()
            assert ids(log.entries()) == taken

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
