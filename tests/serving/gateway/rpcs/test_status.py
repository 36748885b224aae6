import time

from serving.protos import recommender_pb2 as pb
from tests.helpers.toy_model import NUM_ADAPTIVE


def get_status(gateway):
    return gateway.stub.GetStatus(pb.GetStatusRequest())


def test_status_tells_models_store_and_uptime(start, oracle):
    started = time.monotonic()
    gateway = start(models=2)
    status = get_status(gateway)
    assert [model.model for model in status.models] == ["model0", "model1"]
    assert (status.default_model, status.store) == ("model0", "MemoryStore")
    model = status.models[0]
    assert (model.version, model.num_adaptive) == (1, NUM_ADAPTIVE)
    assert model.fingerprint == oracle.parameters.fingerprint
    assert dict(model.user_features) == {
        "segment": "categorical",
        "tags": "categorical_list",
        "age": "numeric",
    }
    assert not model.trouble
    assert 0 < status.uptime_seconds < time.monotonic() - started


def test_model_without_a_version_is_told_with_its_trouble(start):
    gateway = start(versions=())
    (model,) = get_status(gateway).models
    assert (model.version, model.fingerprint) == (0, "")


def test_counters_tell_calls_answers_and_events(gateway):
    for _ in range(2):
        gateway.stub.Rank(pb.RankRequest(user_id="u", item_ids=["001"]))
    event = pb.FeedbackEvent(event_id="e", item_id="001", label=1.0)
    gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(user_id="u", events=[event, event])
    )
    counters = get_status(gateway).counters
    name = "adaptower_requests_total"
    assert counters[f'{name}{{method="Rank",code="OK"}}'] == 2
    assert counters[f'{name}{{method="SubmitFeedback",code="OK"}}'] == 1
    answers = 'adaptower_answers_total{model="model0",rung="meta_init"}'
    assert counters[answers] == 2
    events = "adaptower_feedback_events_total"
    assert counters[f'{events}{{outcome="accepted"}}'] == 1
    assert counters[f'{events}{{outcome="duplicate"}}'] == 1
