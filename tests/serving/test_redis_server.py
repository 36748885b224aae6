import signal
import time

import pytest

from serving.errors import EventLogError, StoreError
from serving.event_log.redis_log import RedisEventLog
from serving.redis_config import RedisConfig
from serving.store import UserKey
from serving.store.redis_store import RedisStore
from tests.contract.adaptive_store_suite import KEY, make_record
from tests.contract.event_log_suite import ids, submit
from tests.helpers.patience import wait_until
from tests.helpers.redis_server import RunningRedis


@pytest.fixture
def run_redis():
    """Starts servers; they end with the test."""
    running = []

    def run(*options):
        running.append(RunningRedis(*options))
        return running[-1]

    yield run
    for server in running:
        server.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--appendonly", "no"], "--appendonly yes"),
        (["--appendfsync", "everysec"], "appendfsync everysec"),
        (["--rename-command", "WAITAOF", ""], "Use Redis 7.2 or Valkey"),
    ],
)
def test_server_that_is_not_durable_is_refused_unless_that_is_wanted(
    run_redis, options, words
):
    server = run_redis(*options)
    with pytest.raises(StoreError, match=words):
        RedisStore(server.config())
    with RedisStore(server.config(durable=False)) as store:
        assert store.compare_and_put(make_record())


def test_server_that_hides_its_configuration_is_warned_about(run_redis, caplog):
    server = run_redis("--rename-command", "CONFIG", "")
    with RedisStore(server.config()):
        assert "appendfsync" in caplog.text


def test_wrong_password_and_address_are_clear_errors_without_the_password(
    run_redis, tmp_path
):
    server = run_redis("--requirepass", "right")
    for config, words in (
        (server.config(), "Authentication required"),
        (RedisConfig(server.url.replace("//", "//:hush@")), "invalid"),
        (RedisConfig(f"unix://:hush@{tmp_path}/nobody"), "does not answer"),
        (RedisConfig(f"unix://{tmp_path}/nobody?password=hush"), "not answer"),
        (RedisConfig("http://:hush@host"), "no address of a Redis server"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            RedisStore(config)
        assert "hush" not in str(caught.value)
    assert RedisConfig("unix:///a?password=x@y").address == "unix:///a"
    right = RedisConfig(server.url.replace("//", "//:right@"))
    with RedisStore(right) as store:
        assert store.get(KEY) is None


def test_log_with_another_number_of_streams_is_refused(run_redis):
    server = run_redis()
    with (
        RedisEventLog(server.config(), shards=4),
        pytest.raises(EventLogError, match="has 4 streams, not 8"),
    ):
        RedisEventLog(server.config(), shards=8)


@pytest.mark.parametrize("reads_first", [False, True])
def test_log_of_a_server_that_lost_its_data_takes_events_in_again(
    run_redis, reads_first
):
    server = run_redis()
    with RedisEventLog(server.config(), shards=4) as log:
        log.append([submit(0)])
        server.clear()
        if reads_first:
            assert log.read("c", 9) == []
        assert ids(log.append([submit(1)])) == ["u1:e1"]
        assert log.append([submit(1)]) == [None]
        assert ids(log.read("c", 9)) == ["u1:e1"]


def test_event_of_a_call_that_failed_is_not_known(run_redis):
    server = run_redis()
    with RedisEventLog(server.config(), shards=1) as log:
        name = log._streams.name(0)
        server.client.xgroup_destroy(name, "online")
        with pytest.raises(EventLogError):
            log.append([submit(1)])
        server.client.xgroup_create(name, "online", "0")
        assert ids(log.append([submit(1)])) == ["u1:e1"]


def test_two_logs_share_their_streams(run_redis):
    server = run_redis()
    with (
        RedisStore(server.config(prefix="one")) as one,
        RedisStore(server.config(prefix="two")) as two,
    ):
        one.compare_and_put(make_record())
        assert two.get(KEY) is None


def test_hung_server_fails_reads_in_time_and_is_used_again(run_redis):
    server = run_redis()
    config = server.config(read_timeout_seconds=0.05, pause_seconds=0.3)
    with RedisStore(config) as store:
        store.compare_and_put(make_record())
        server.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        failures = []
        for _ in range(1000):
            with pytest.raises(StoreError) as caught:
                store.get(KEY)
            failures.append(str(caught.value))
        # Three waited for the timeout; the others, but a trial each pause,
        # did not: a thousand timeouts take fifty seconds.
        assert time.monotonic() - begun < 20
        assert "does not answer" in failures[0]
        assert "times in a row" in "".join(failures)
        server.send_signal(signal.SIGCONT)
        wait_until(lambda: reads(store))


def reads(store) -> bool:
    try:
        return store.get(KEY) is not None
    except StoreError:
        return False


def test_restarted_server_is_used_at_once(run_redis):
    server = run_redis()
    with RedisStore(server.config()) as store:
        store.compare_and_put(make_record())
        server.kill()
        server.start()
        # Neither its connections nor its scripts are known any more.
        assert store.compare_and_put(make_record(sequence=2))
        assert store.get(KEY).sequence == 2
        assert store.get(UserKey("adaptower", "nobody")) is None


def test_server_that_took_the_place_of_another_is_found_again(
    run_redis, tmp_path
):
    old, new = run_redis(), run_redis()
    address = tmp_path / "socket"
    address.symlink_to(old.url.removeprefix("unix://"))
    config = RedisConfig(f"unix://{address}", read_timeout_seconds=10.0)
    with RedisStore(config) as store:
        store.compare_and_put(make_record())
        old.client.replicaof("127.0.0.1", 1)
        address.unlink()
        address.symlink_to(new.url.removeprefix("unix://"))
        with pytest.raises(StoreError, match="read only replica"):
            store.compare_and_put(make_record(sequence=2))
        assert store.get(KEY) is None
        assert store.compare_and_put(make_record())
