"""Users who are deleted are gone, wherever one looks, and stay away."""

import contextlib
import threading

import grpc
import numpy as np
import pytest

from serving.client import RecommenderClient
from serving.errors import DeletedUserError
from serving.event_log import (
    LmdbEventLog,
    LogConfig,
    LoggedEvent,
    Submission,
)
from serving.event_log.redis_log import RedisEventLog
from serving.experiments.config import Arm, Experiment, ExperimentsConfig
from serving.experiments.joining import join, read_lines
from serving.experiments.purging import purge
from serving.protos import recommender_pb2 as pb
from serving.store import LmdbStore, UserKey
from serving.store.redis_store import RedisStore
from tests.helpers.oracle_backend import OracleBackend, hold_adapt
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ToyOracle, ToyParameters

pytestmark = pytest.mark.fault

GONE, STAYS = "ann@example.org", "bob@example.org"
# Known to nobody but the users who are deleted.
TRACES = (b"secret-event", b"secret-item", b"secret-segment")
MODELS = ("model0", "model1")
MAP_BYTES = 1 << 24
DAY = 86_400.0


@pytest.fixture(scope="module")
def redis():
    server = RunningRedis()
    yield server
    server.close()


@pytest.fixture(params=["lmdb", "redis"])
def places(request, tmp_path):
    """Store, log, and what reads every byte that they hold."""
    with contextlib.ExitStack() as stack:
        if request.param == "lmdb":
            store = LmdbStore(tmp_path / "store", MAP_BYTES)
            log = LmdbEventLog(tmp_path / "log", LogConfig(map_bytes=MAP_BYTES))
            stack.enter_context(store)
            yield store, log, lambda: lmdb_bytes(store, log)
        else:
            server = request.getfixturevalue("redis")
            server.clear()
            store = stack.enter_context(RedisStore(server.config()))
            log = RedisEventLog(server.config(), LogConfig(), shards=2)
            yield store, log, lambda: redis_bytes(server.client)


def lmdb_bytes(store, log):
    found = []
    for file in (store._file, log._file):
        with file.reading() as transaction:
            main = list(transaction.cursor())
        for name, data in main:
            found += [name, data]
            with contextlib.suppress(Exception):
                database = file._env.open_db(name, create=False)
                with file._env.begin(db=database) as transaction:
                    found += [b for pair in transaction.cursor() for b in pair]
    return b"\n".join(found)


def redis_bytes(client):
    keys = list(client.scan_iter())
    kinds = {key: client.type(key) for key in keys}
    found = list(keys)
    for key, kind in kinds.items():
        if kind == b"stream":
            for _, fields in client.xrange(key):
                found += [b for pair in fields.items() for b in pair]
        elif kind == b"hash":
            found += [b for pair in client.hgetall(key).items() for b in pair]
        elif kind == b"zset":
            found += client.zrange(key, 0, -1)
        elif kind == b"set":
            found += client.smembers(key)
        elif kind == b"list":
            found += client.lrange(key, 0, -1)
        else:
            found.append(client.get(key))
    return b"\n".join(found)


@pytest.fixture
def gateway(places, tmp_path):
    store, log, _ = places
    folder = tmp_path / "exposures"
    experiment = Experiment("x", (Arm("a"), Arm("b")), salt="s")
    with OracleGateway(
        OracleBackend({1: ToyOracle(ToyParameters.from_seed(1))}),
        store,
        tmp_path,
        models=2,
        log=log,
        experiments=ExperimentsConfig((experiment,), folder, folder / "key"),
    ) as gateway:
        yield gateway


def submit(gateway, user, *event_ids, item="secret-item", **fields):
    request = pb.SubmitFeedbackRequest(
        user_id=user,
        events=[
            pb.FeedbackEvent(event_id=event_id, item_id=item, label=1.0)
            for event_id in event_ids
        ],
        **fields,
    )
    if user == GONE:
        request.features["segment"].strings.values.append("secret-segment")
    return gateway.stub.SubmitFeedback(request)


def collected(gateway):
    """Users whose events the outer loop holds on to."""
    lines = gateway.meta_stage._lines
    return set().union(*(line.collector.user_ids for line in lines))


def refused(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code()


def test_nothing_of_a_deleted_user_is_left_anywhere(gateway, places, tmp_path):
    store, log, all_bytes = places
    for model in MODELS:
        submit(
            gateway, GONE, *("secret-event-1", "secret-event-2"), model=model
        )
        submit(gateway, GONE, "secret-event-3", model=model)
    submit(gateway, STAYS, "e1", "e2", item="003")
    for user in (GONE, STAYS):
        gateway.stub.Rank(pb.RankRequest(user_id=user, item_ids=["003"]))
    assert all(trace in all_bytes() for trace in TRACES)
    assert collected(gateway) >= {GONE}

    receipt = gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=GONE))

    assert (receipt.records, receipt.events) == (2, 4)
    assert receipt.receipt_id
    assert receipt.deleted_ms < receipt.expires_ms
    left = all_bytes()
    assert not [trace for trace in TRACES if trace in left]
    for model in MODELS:
        key = UserKey(model, GONE)
        assert store.get(key) is None
        assert store.tombstone(key).expires_ms >= receipt.expires_ms
        assert log.events_of(key) == []
        assert GONE not in {r.key.user_id for r in store.iterate(model)}
    assert GONE not in {entry.key.user_id for entry in log.entries()}
    assert GONE not in collected(gateway)
    answer = gateway.stub.GetUser(pb.GetUserRequest(user_id=GONE))
    assert not answer.found
    assert not any(m.events or m.weights or m.features for m in answer.models)
    joined = join(read_lines(tmp_path / "exposures"), 60.0)
    assert {e.user for e in joined.get(("x", "a"), [])} | {
        e.user for e in joined.get(("x", "b"), [])
    } == {gateway.trials._exposures._pseudonyms.of(STAYS)}
    # A day later the lines themselves go.
    name = gateway.trials._exposures._pseudonyms.of(GONE)
    for file in (tmp_path / "exposures").glob("*.jsonl"):
        later = file.stat().st_mtime + 2 * DAY
    purge(tmp_path / "exposures", 90.0, lambda: later)
    kinds = {
        line["kind"]
        for line in read_lines(tmp_path / "exposures")
        if line["user"] == name
    }
    assert kinds == {"forget"}
    # Nobody else has lost anything.
    assert store.get(UserKey("model0", STAYS)).support_count == 2
    assert gateway.stub.GetUser(pb.GetUserRequest(user_id=STAYS)).found


def test_events_that_come_late_are_refused_and_leave_nothing(gateway, places):
    _, log, all_bytes = places
    submit(gateway, GONE, "secret-event-1")
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=GONE))
    for event_id in ("secret-event-1", "secret-event-2"):
        code = refused(lambda e=event_id: submit(gateway, GONE, e))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
    event = LoggedEvent("secret-event-3", "secret-item", 1.0, 0)
    (outcome,) = log.append([Submission(UserKey("model0", GONE), (event,))])
    assert isinstance(outcome, DeletedUserError)
    left = all_bytes()
    assert not [trace for trace in TRACES if trace in left]
    assert GONE not in collected(gateway)


def test_user_deleted_while_events_are_learned_stays_away(gateway, places):
    """The tombstone comes between the inner loop and the store."""
    store, _, all_bytes = places
    learning, go_on = hold_adapt(gateway.backend)
    outcomes = []
    sending = threading.Thread(
        target=lambda: outcomes.append(
            refused(lambda: submit(gateway, GONE, "secret-event-1"))
        )
    )
    sending.start()
    assert learning.wait(60)
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=GONE))
    go_on.set()
    sending.join()
    assert outcomes == [grpc.StatusCode.FAILED_PRECONDITION]
    assert store.get(UserKey("model0", GONE)) is None
    left = all_bytes()
    assert not [trace for trace in TRACES if trace in left]
    assert GONE not in collected(gateway)


def test_deletion_wins_over_senders_that_never_stop(gateway, places):
    store, log, _ = places
    stopped = threading.Event()
    codes = set()

    def send(sender):
        number = 0
        while not stopped.is_set():
            number += 1
            try:
                submit(gateway, GONE, f"{sender}-{number}")
            except grpc.RpcError as error:
                codes.add(error.code())

    senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for sender in senders:
        sender.start()
    with RecommenderClient(gateway.target, 30.0) as client:
        while client.rank(GONE, ["003"]).support_count < 8:
            pass
        client.delete_user(GONE)
        scores = client.rank(GONE, ["003"]).scores
        for _ in range(20):
            answer = client.rank(GONE, ["003"])
            assert (answer.store_hit, answer.support_count) == (False, 0)
            np.testing.assert_array_equal(answer.scores, scores)
    stopped.set()
    for sender in senders:
        sender.join()
    assert codes <= {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert store.get(UserKey("model0", GONE)) is None
    assert log.events_of(UserKey("model0", GONE)) == []
