import argparse
from pathlib import Path

import pytest

from serving.event_log import LmdbEventLog, LogConfig
from serving.event_log.config import (
    add_log_flags,
    open_event_log,
    take_log_config,
)
from serving.event_log.redis_log import RedisEventLog
from serving.store import LmdbStore, Retention
from serving.store.config import StoreConfig
from tests.contract.event_log_suite import EventLogSuite, ids, submit
from tests.helpers.redis_server import RunningRedis


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_log_flags(parser)
    flags = vars(parser.parse_args(arguments))
    config = take_log_config(flags, parser)
    assert not flags
    return config


def test_flags_become_one_frozen_value():
    assert parse() == LogConfig()
    assert parse(
        *("--log-keep-seconds", "0", "--log-dedup-seconds", "60"),
        *("--log-max-entries", "10", "--log-map-bytes", "65536"),
    ) == LogConfig(10, 60.0, 0.0, map_bytes=65536)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--log-keep-seconds", "-1"),
        ("--log-keep-seconds", "nan"),
        ("--log-keep-seconds", "inf"),
        ("--log-dedup-seconds", "0"),
        ("--log-dedup-seconds", "inf"),
        ("--log-lease-seconds", "inf"),
        ("--log-max-entries", "0"),
        ("--log-map-bytes", "-1"),
    ],
)
def test_value_that_makes_no_sense_is_refused(flag, value, capsys):
    with pytest.raises(SystemExit):
        parse(flag, value)
    assert flag in capsys.readouterr().err


class TestLogBesideStoreInMemory(EventLogSuite):
    def make_log(self, tmp_path, config=None, streams=4):
        config = config or LogConfig()
        retention = Retention(tombstone_seconds=config.tombstone_seconds)
        return open_event_log(StoreConfig(retention=retention), config)

    def test_its_folder_goes_with_it(self, log):
        folder = Path(log._folder.name)
        log.append([submit(1)])
        assert any(folder.iterdir())
        log.close()
        assert not folder.exists()


def test_log_is_kept_in_the_folder_of_the_store(tmp_path):
    config = StoreConfig(str(tmp_path / "store"))
    with open_event_log(config, LogConfig()) as log:
        assert type(log) is LmdbEventLog
        log.append([submit(1)])
    # The store does not mind, whichever is opened first.
    with LmdbStore(tmp_path / "store") as store:
        assert not list(store.iterate("adaptower"))
    with open_event_log(config, LogConfig()) as log:
        assert ids(log.entries()) == ["u1:e1"]


def test_log_is_kept_in_the_redis_server_of_the_store():
    server = RunningRedis()
    config = StoreConfig(server.url)
    with open_event_log(config, LogConfig()) as log:
        assert type(log) is RedisEventLog
        log.append([submit(1)])
    with RedisEventLog(server.config()) as log:
        assert ids(log.entries()) == ["u1:e1"]
    server.close()


def test_tombstones_are_kept_as_long_as_those_of_the_store(tmp_path):
    retention = Retention(tombstone_seconds=60.0)
    config = StoreConfig(str(tmp_path), retention=retention)
    with open_event_log(config, LogConfig()) as log:
        _, tombstone = log.delete(submit(1).key)
        assert tombstone.expires_ms - tombstone.deleted_ms == 60_000
