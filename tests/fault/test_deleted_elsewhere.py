"""Users whom one gateway deletes: the others know nothing of them, either."""

import contextlib
import itertools
import threading

import grpc
import pytest

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import is_held_back
from serving.event_log import LogConfig
from serving.event_log.redis_log import RedisEventLog
from serving.online.meta_stage_config import INLINE, MetaStageConfig
from serving.protos import recommender_pb2 as pb
from serving.store import UserKey
from serving.store.redis_store import RedisStore
from tests.helpers.oracle_backend import OracleBackend, hold_adapt
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ToyOracle

pytestmark = pytest.mark.fault

MODEL = "model0"
META = OnlineMetaConfig()
# Known to nobody but the users who are deleted.
SECRET = "secret-item"


def some_ids(held_back):
    ids = (f"user-{number}" for number in itertools.count())
    return (
        i for i in ids if is_held_back(i, META.held_back_share) is held_back
    )


@pytest.fixture
def gateways(redis, tmp_path):
    """One that deletes and one that does not hear of it, over one Redis."""
    with contextlib.ExitStack() as stack:

        def start(name):
            return stack.enter_context(
                OracleGateway(
                    OracleBackend({v: ToyOracle.from_seed(v) for v in (1, 2)}),
                    stack.enter_context(RedisStore(redis.config())),
                    tmp_path / name,
                    log=RedisEventLog(redis.config(), LogConfig(), shards=2),
                    meta=MetaStageConfig(INLINE),
                )
            )

        yield start("deletes"), start("other")


def submit(gateway, user, first, item_id=SECRET, size=META.query_events):
    events = [
        pb.FeedbackEvent(
            event_id=f"{user}-{number}", item_id=item_id, label=number % 2
        )
        for number in range(first, first + size)
    ]
    request = pb.SubmitFeedbackRequest(user_id=user, events=events)
    return gateway.stub.SubmitFeedback(request)


def give_tasks(gateway, user, count, item_id):
    """Has a user make a support set, and then so many query sets."""
    for number in range(count + 1):
        submit(gateway, user, number * META.query_events, item_id)


def delete(gateway, user):
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=user))


def held(gateway):
    """Of whom the outer loop holds on to something."""
    lines = gateway.meta_stage._lines
    return set().union(*(line.collector.user_ids for line in lines))


def test_the_other_learns_nothing_from_them_and_forgets_them(gateways):
    deletes, other = gateways
    outcomes, items = [], []
    other.meta_stage.subscribe(lambda _, outcome: outcomes.append(outcome))
    predict = other.backend.predict

    async def note(model, version, signature, inputs):
        if signature == "meta_gradient":
            for half in ("support", "query"):
                items.extend(inputs[f"{half}_item_id"].string_val)
        return await predict(model, version, signature, inputs)

    other.backend.predict = note
    learns, stays, waits = itertools.islice(some_ids(held_back=False), 3)
    judges, also_judges = itertools.islice(some_ids(held_back=True), 2)
    give_tasks(other, learns, 10, SECRET)
    give_tasks(other, judges, 2, SECRET)
    give_tasks(other, waits, 0, SECRET)
    submit(other, waits, META.query_events, size=1)
    gone = {learns, judges, waits}
    for user in gone:
        delete(deletes, user)
    assert held(other) == gone

    give_tasks(other, also_judges, META.min_held_back_tasks, "003")
    assert not outcomes
    give_tasks(other, stays, META.tasks_per_update - 10, "003")

    assert outcomes in (["promoted"], ["refused"])
    assert {*items} - {b""} == {b"003"}
    other.run(other.meta_stage.forget_gone())
    assert held(other) == {also_judges}


def test_what_the_other_learns_from_them_at_the_moment_is_dropped(gateways):
    deletes, other = gateways
    learning, go_on = hold_adapt(other.backend)
    errors = []

    def send():
        try:
            submit(other, "gone", 0)
        except grpc.RpcError as error:
            errors.append(error.code())

    sending = threading.Thread(target=send)
    sending.start()
    assert learning.wait(60)
    delete(deletes, "gone")
    go_on.set()
    sending.join()
    assert errors == [grpc.StatusCode.FAILED_PRECONDITION]
    for gateway in gateways:
        assert_gone(gateway, "gone")
    assert "gone" not in held(other)


def test_who_is_learned_again_for_another_version_does_not_come_back(gateways):
    deletes, other = gateways
    submit(other, "gone", 0)
    del other.backend.versions[2]
    other.refresh()
    learning, go_on = hold_adapt(other.backend)
    # The straggler is met, and learned behind the answer.
    request = pb.RankRequest(user_id="gone", item_ids=["003"])
    assert other.stub.Rank(request).provenance.degraded
    assert learning.wait(60)
    delete(deletes, "gone")
    go_on.set()
    name = (
        f'adaptower_users_relearned_total{{model="{MODEL}",outcome="current"}}'
    )
    wait_until(lambda: other.metrics.counters().get(name) == 1)
    for gateway in gateways:
        assert_gone(gateway, "gone")


def assert_gone(gateway, user):
    """Nothing is kept, nothing comes in, and the answer is a newcomer's."""
    key = UserKey(MODEL, user)
    assert gateway.store.get(key) is None
    assert gateway.log.events_of(key) == []
    answer = gateway.stub.Rank(pb.RankRequest(user_id=user, item_ids=["003"]))
    assert answer.provenance.rung == pb.RUNG_META_INIT
    with pytest.raises(grpc.RpcError) as late:
        submit(gateway, user, 0)
    assert late.value.code() == grpc.StatusCode.FAILED_PRECONDITION
