import argparse

import pytest

from serving.store import LmdbStore, MemoryStore, Retention
from serving.store.config import (
    StoreConfig,
    add_store_flags,
    open_store,
    take_store_config,
)
from serving.store.redis_store import RedisStore
from tests.helpers.redis_server import RunningRedis


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_store_flags(parser)
    flags = vars(parser.parse_args(arguments))
    config = take_store_config(flags, parser)
    assert not flags
    return config


def test_flags_become_one_frozen_value():
    assert parse() == StoreConfig()
    day = 24 * 3600
    assert parse(
        *("--store", "redis://host", "--store-not-durable"),
        *("--store-ttl-days", "90", "--tombstone-days", "2"),
        *("--store-map-bytes", "65536"),
    ) == StoreConfig("redis://host", 65536, False, Retention(90 * day, 2 * day))


def test_location_says_which_store(tmp_path):
    server = RunningRedis()
    for location, kind in (
        (None, MemoryStore),
        (str(tmp_path / "store"), LmdbStore),
        (server.url, RedisStore),
    ):
        with open_store(StoreConfig(location)) as store:
            assert type(store) is kind
    server.close()


@pytest.mark.parametrize("flag", ["--store-ttl-days", "--tombstone-days"])
@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf"])
def test_time_that_is_none_is_refused(flag, days, capsys):
    with pytest.raises(SystemExit):
        parse(flag, days)
    assert flag in capsys.readouterr().err
