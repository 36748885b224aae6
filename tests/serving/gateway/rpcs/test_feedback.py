import asyncio
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client.decoding import user_export
from serving.contract.support import SupportEvent
from serving.errors import BackendUnavailableError
from serving.limits import Limits
from serving.protos import recommender_pb2 as pb
from serving.security.config import SecurityConfig
from serving.store import UserKey, UserRecord, fingerprint_digest
from serving.store.record_bytes import encode_record
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import USER_FEATURES

NOW = int(time.time())


def event(number, item_id="003", label=1.0, timestamp=1_700_000_000):
    return pb.FeedbackEvent(
        event_id=f"e{number}",
        item_id=item_id,
        label=label,
        timestamp=timestamp,
    )


def submit(gateway, events, user_id="u", **fields):
    return gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(user_id=user_id, events=events, **fields)
    )


def test_first_events_lift_a_user_to_the_adapted_rung(gateway, oracle):
    answer = submit(gateway, [event(1), event(2, "001", 0.0)])
    weights, before, after = oracle.adapt({}, ["003", "001"], [1.0, 0.0])
    assert (answer.accepted, answer.duplicates) == (2, 0)
    assert answer.loss_before == pytest.approx(before, abs=1e-5)
    assert answer.loss_after == pytest.approx(after, abs=1e-5)
    told = answer.provenance
    assert (told.rung, told.support_count) == (pb.RUNG_ADAPTED, 2)
    assert list(told.missing_features) == [f.name for f in USER_FEATURES]
    ranked = gateway.stub.Rank(pb.RankRequest(user_id="u", item_ids=["003"]))
    np.testing.assert_allclose(
        ranked.scores, oracle.rank({}, ["003"], weights), atol=1e-5
    )


def test_learning_goes_on_from_decayed_weights(start, oracle):
    gateway = start(decay_half_life_days=1.0)
    learned, _, _ = oracle.adapt({}, ["003"], [1.0])
    day_ago = int(time.time() * 1e3) - 86_400_000
    assert gateway.store.compare_and_put(
        UserRecord(
            key=UserKey("model0", "u"),
            fingerprint=fingerprint_digest(oracle.parameters.fingerprint),
            sequence=1,
            support_count=1,
            weights=learned.astype(np.float32),
            reservoir=(SupportEvent("003", 1.0),),
            updated_ms=day_ago,
        )
    )
    submit(gateway, [event(2, "001", 0.0)])
    start_weights = (learned + oracle.parameters.meta_init) / 2
    expected, _, _ = oracle.adapt(
        {}, ["003", "001"], [1.0, 0.0], weights=start_weights
    )
    record = gateway.store.get(UserKey("model0", "u"))
    np.testing.assert_allclose(record.weights, expected, atol=1e-4)


def test_items_the_model_does_not_know_are_kept_and_named(gateway):
    answer = submit(
        gateway, [event(1, "new"), event(2, "001"), event(3, "new")]
    )
    assert answer.accepted == 3
    assert list(answer.unknown_item_ids) == ["new"]
    record = gateway.store.get(UserKey("model0", "u"))
    assert [e.item_id for e in record.reservoir] == ["new", "001", "new"]
    # Known by now, though not to the model: only new events are told.
    assert not submit(gateway, [event(4, "002")]).unknown_item_ids


def test_clocks_may_differ_a_little(gateway):
    assert submit(gateway, [event(1, timestamp=NOW + 60)]).accepted == 1


def test_events_of_a_deleted_user_are_refused(gateway):
    submit(gateway, [event(1)])
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id="u"))
    with pytest.raises(grpc.RpcError) as refused:
        submit(gateway, [event(2)])
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "was deleted" in refused.value.details()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "at least one event"),
        ([event(1, label=float("nan"))], "label nan"),
        ([event(1, label=float("inf"))], "label inf"),
        ([event(1, label=float("-inf"))], "label -inf"),
        ([event(1, label=-0.1)], "from 0 (disliked) to 1"),
        ([event(1), event(2, label=2.0)], "'e2' has the label 2.0"),
        ([event(1, "")], "item_id is empty"),
        ([event(1, "i" * 300)], "at most 256"),
        ([pb.FeedbackEvent(item_id="003")], "event_id is empty"),
        ([event(1, timestamp=NOW * 1000)], "not milliseconds"),
        ([event(1, timestamp=-1)], "since 1970"),
        ([event(1, timestamp=NOW + 86_400)], "in the future"),
        ([event(n) for n in range(21)], "20 allowed"),
    ],
)
def test_bad_feedback_is_refused_and_changes_nothing(start, events, words):
    gateway = start(limits=Limits(events=20))
    submit(gateway, [event(100)])
    key = UserKey("model0", "u")
    before = encode_record(gateway.store.get(key))
    with pytest.raises(grpc.RpcError) as refused:
        submit(gateway, events)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in refused.value.details()
    assert encode_record(gateway.store.get(key)) == before
    assert gateway.backend.calls == ["adapt"]


def wait_until_learned(gateway, count, user_id="u"):
    def learned():
        record = gateway.store.get(UserKey("model0", user_id))
        return record and record.support_count == count and record

    return wait_until(learned)


def test_asynchronous_feedback_is_answered_before_it_is_learned(start, oracle):
    gateway = start(feedback="asynchronous")
    answer = submit(gateway, [event(1), event(2, "001", 0.0), event(1)])
    assert (answer.accepted, answer.duplicates) == (2, 1)
    assert answer.pending
    assert not answer.HasField("loss_before")
    record = wait_until_learned(gateway, 2)
    expected, _, _ = oracle.adapt({}, ["003", "001"], [1.0, 0.0])
    np.testing.assert_allclose(record.weights, expected, atol=1e-5)
    again = submit(gateway, [event(1)])
    assert (again.accepted, again.duplicates, again.pending) == (0, 1, False)
    assert again.provenance.support_count == 2


def test_feedback_that_learns_too_slowly_is_pending_and_no_error(start):
    gateway = start(backend_timeout_seconds=0.2)
    run = gateway.backend.run
    answered = threading.Event()

    async def slow(model, request):
        while not answered.is_set():
            await asyncio.sleep(0.01)
        return await run(model, request)

    gateway.backend.run = slow
    answer = submit(gateway, [event(1)])
    answered.set()
    assert (answer.accepted, answer.pending) == (1, True)
    assert answer.provenance.support_count == 0
    wait_until_learned(gateway, 1)


def test_feedback_waits_in_the_log_for_a_model_server_that_is_down(start):
    gateway = start()
    run = gateway.backend.run

    async def gone(model, request):
        raise BackendUnavailableError("gone")

    gateway.backend.run = gone
    assert submit(gateway, [event(1)]).pending
    assert submit(gateway, [event(2)]).pending
    gateway.backend.run = run
    assert wait_until_learned(gateway, 2).reservoir == (
        (SupportEvent("003", 1.0),) * 2
    )


def test_what_a_user_told_is_exported(gateway):
    told = {"age": pb.FeatureValues(numbers=pb.NumberList(values=[33.0]))}
    submit(gateway, [event(1)], features=told)
    export = gateway.stub.GetUser(pb.GetUserRequest(user_id="u"))
    assert dict(export.models[0].features) == told
    (model,) = user_export(export).models
    assert model.features == {"age": (33.0,)}


def with_rate(start, burst):
    """Starts a gateway where a user has so many events, for long."""
    return start(
        security=SecurityConfig(feedback_per_second=1e-3, feedback_burst=burst)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "typo"},
        {"features": {"nosuch": pb.FeatureValues()}},
        {
            "features": {
                "age": pb.FeatureValues(strings=pb.StringList(values=["old"]))
            }
        },
    ],
    ids=["unknown model", "unknown feature", "feature of another kind"],
)
def test_refused_request_costs_its_user_nothing(start, fields):
    gateway = with_rate(start, 2)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as refused:
            submit(gateway, [event(1), event(2)], **fields)
        assert refused.value.code() in (
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
    assert submit(gateway, [event(1), event(2)]).accepted == 2


def test_user_with_nothing_left_is_told_so_before_all_else(start):
    gateway = with_rate(start, 2)
    submit(gateway, [event(1), event(2)])
    for fields in ({}, {"model": "typo"}):
        with pytest.raises(grpc.RpcError) as refused:
            submit(gateway, [event(3)], **fields)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
