import json

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from serving.errors import DeletedUserError, RecordError
from serving.event_log import LmdbEventLog, LoggedEvent, Submission
from serving.protos import recommender_pb2 as pb
from serving.store import MemoryStore, UserKey, fingerprint_digest
from tests.helpers.toy_model import NUM_ADAPTIVE


def submit(gateway, user_id, model, *item_ids):
    gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(
            user_id=user_id,
            model=model,
            events=[
                pb.FeedbackEvent(event_id=f"e{n}", item_id=item_id, label=0.5)
                for n, item_id in enumerate(item_ids)
            ],
        )
    )


def get(gateway, user_id="u"):
    return gateway.stub.GetUser(pb.GetUserRequest(user_id=user_id))


def delete(gateway, user_id="u"):
    return gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=user_id))


@pytest.fixture
def gateway(start):
    gateway = start(models=2)
    submit(gateway, "u", "model0", "001", "002")
    submit(gateway, "u", "model1", "003")
    submit(gateway, "other", "model0", "004")
    return gateway


def test_export_holds_all_that_the_store_does(gateway, oracle):
    answer = get(gateway)
    assert (answer.found, answer.user_id) == (True, "u")
    first, second = answer.models
    record = gateway.store.get(UserKey("model0", "u"))
    (weights,) = first.weights
    np.testing.assert_array_equal(weights.values, record.weights)
    assert (weights.dtype, weights.support_count) == ("float32", 2)
    digest = fingerprint_digest(oracle.parameters.fingerprint)
    assert weights.fingerprint_digest == digest.hex()
    assert (first.sequence, first.support_count) == (1, 2)
    assert [(e.item_id, e.label) for e in first.reservoir] == [
        ("001", 0.5),
        ("002", 0.5),
    ]
    assert first.provenance.rung == pb.RUNG_ADAPTED
    assert [e.item_id for e in second.reservoir] == ["003"]
    assert second.provenance.model == "model1"


def test_export_is_json_that_reads_back_the_same(gateway):
    answer = get(gateway)
    text = json.dumps(json_format.MessageToDict(answer))
    assert json_format.Parse(text, pb.GetUserResponse()) == answer


def test_user_never_seen_is_not_found_but_explained(gateway):
    answer = get(gateway, "stranger")
    assert not answer.found
    assert [m.provenance.rung for m in answer.models] == [pb.RUNG_META_INIT] * 2
    assert not any(m.sequence or m.weights for m in answer.models)


def test_damaged_record_is_told_and_not_exported(start):
    class Damaged(MemoryStore):
        def get(self, key):
            raise RecordError("its bytes are damaged")

    (model,) = get(start(store=Damaged())).models
    assert not model.weights
    assert model.provenance.rung == pb.RUNG_FALLBACK
    assert model.provenance.degraded_reason == "its bytes are damaged"


def test_delete_removes_the_user_under_every_model(gateway):
    receipt = delete(gateway)
    assert receipt.records == 2
    assert len(receipt.receipt_id) == 32
    assert 0 < receipt.deleted_ms < receipt.expires_ms
    answer = get(gateway)
    assert not answer.found
    for model in answer.models:
        assert 0 < model.deleted_ms <= receipt.deleted_ms
    ranked = gateway.stub.Rank(pb.RankRequest(user_id="u", item_ids=["001"]))
    assert ranked.provenance.rung == pb.RUNG_META_INIT
    assert get(gateway, "other").found


def test_deleting_again_finds_nothing_and_has_its_own_receipt(gateway):
    first, second = delete(gateway), delete(gateway)
    assert second.records == 0
    assert first.receipt_id != second.receipt_id


def test_feedback_on_its_way_brings_a_deleted_user_not_back(gateway):
    """The user is deleted while the inner loop runs."""
    adapt = gateway.backend.predict

    async def slow(model, version, signature, inputs):
        outputs = await adapt(model, version, signature, inputs)
        if signature == "adapt":
            gateway.store.delete(UserKey("model0", "u"))
        return outputs

    gateway.backend.predict = slow
    with pytest.raises(grpc.RpcError) as refused:
        submit(gateway, "u", "model0", "005", "006", "007")
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert gateway.store.get(UserKey("model0", "u")) is None


@pytest.fixture
def log(tmp_path):
    with LmdbEventLog(tmp_path / "log") as log:
        yield log


def append(log, user_id, *item_ids):
    events = tuple(
        LoggedEvent(f"l{n}", item_id, 0.25, 1_700_000_000 + n)
        for n, item_id in enumerate(item_ids)
    )
    return log.append([Submission(UserKey("model0", user_id), events)])


def test_events_of_the_log_are_exported_and_deleted(start, log):
    gateway = start(log=log)
    append(log, "u", "001", "002")
    append(log, "u", "003")
    append(log, "other", "004")
    answer = get(gateway)
    assert answer.found
    (model,) = answer.models
    # Event ids of the second submission were known by the first one.
    assert [
        (e.event_id, e.item_id, e.label, e.timestamp) for e in model.events
    ] == [
        ("l0", "001", 0.25, 1_700_000_000),
        ("l1", "002", 0.25, 1_700_000_001),
    ]
    receipt = delete(gateway)
    assert receipt.events == 1
    assert not get(gateway).found
    assert isinstance(append(log, "u", "005")[0], DeletedUserError)
    assert get(gateway, "other").models[0].events


@pytest.mark.parametrize("call", [get, delete])
@pytest.mark.parametrize("user_id", ["", "u" * 300])
def test_bad_user_id_is_refused(gateway, call, user_id):
    with pytest.raises(grpc.RpcError) as refused:
        call(gateway, user_id)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(gateway.store.get(UserKey("model0", "u")).weights) == (
        NUM_ADAPTIVE
    )
