"""Experiments as users of the gateway meet them."""

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.experiments.assignment import assign
from serving.experiments.config import Arm
from serving.experiments.joining import join
from serving.experiments.line_writer import LineWriter
from serving.experiments.report import make_report
from serving.protos import recommender_pb2 as pb
from serving.store import UserKey
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ToyOracle, ToyParameters

ITEMS = ["000", "003", "005"]


def users_of(experiment, arm, count=3):
    """Ids of users that are in an arm."""
    found = []
    number = 0
    while len(found) < count:
        user = f"u{number}"
        place = assign([experiment], user)
        if (place and place.arm.name) == arm:
            found.append(user)
        number += 1
    return found


def rank(gateway, user, **fields):
    return gateway.stub.Rank(
        pb.RankRequest(user_id=user, item_ids=ITEMS, **fields)
    )


def submit(gateway, user, numbers, **fields):
    events = [
        pb.FeedbackEvent(event_id=f"e{n}", item_id=ITEMS[n % 3], label=n % 2)
        for n in numbers
    ]
    return gateway.stub.SubmitFeedback(
        pb.SubmitFeedbackRequest(user_id=user, events=events, **fields)
    )


def lines(gateway, kind):
    return [line for line in gateway.exposure_log() if line["kind"] == kind]


def test_arm_that_adapts_nothing_serves_the_meta_initialization(run, oracle):
    gateway, experiment = run(Arm("on"), Arm("off", max_support=0))
    (off,) = users_of(experiment, "off", 1)
    answer = submit(gateway, off, range(4))
    assert (answer.accepted, answer.duplicates) == (0, 0)
    assert answer.provenance.arm == "x/off"
    assert gateway.store.get(UserKey("model0", off)) is None
    ranked = rank(gateway, off)
    np.testing.assert_allclose(ranked.scores, oracle.rank({}, ITEMS), atol=1e-5)
    (on,) = users_of(experiment, "on", 1)
    assert submit(gateway, on, range(4)).accepted == 4
    assert rank(gateway, on).provenance.arm == "x/on"
    assert rank(gateway, on).provenance.support_count == 4


def test_own_weights_from_before_are_not_used_in_an_arm_without(run, oracle):
    gateway, experiment = run(Arm("on"), Arm("off", max_support=0))
    (off,) = users_of(experiment, "off", 1)
    submit(gateway, off, range(4), model="model0")
    assert not rank(gateway, off).provenance.store_hit
    np.testing.assert_allclose(
        rank(gateway, off).scores, oracle.rank({}, ITEMS), atol=1e-5
    )


def test_seen_items_are_left_out_in_an_arm_that_adapts_nothing(run):
    gateway, experiment = run(Arm("on"), Arm("off", max_support=0))
    (off,) = users_of(experiment, "off", 1)
    submit(gateway, off, range(3), model="model0")
    answer = gateway.stub.Recommend(pb.RecommendRequest(user_id=off, k=8))
    assert (answer.seen, answer.provenance.arm) == (3, "x/off")
    assert not {*answer.item_ids} & {*ITEMS}


def test_frozen_arm_learns_from_the_first_events_only(run, oracle):
    gateway, experiment = run(Arm("on"), Arm("frozen", max_support=3))
    (user,) = users_of(experiment, "frozen", 1)
    assert submit(gateway, user, range(2)).accepted == 2
    answer = submit(gateway, user, [1, 2, 3, 4])
    assert (answer.accepted, answer.duplicates) == (1, 1)
    frozen = rank(gateway, user)
    assert frozen.provenance.support_count == 3
    assert submit(gateway, user, range(10, 15)).accepted == 0
    np.testing.assert_array_equal(rank(gateway, user).scores, frozen.scores)
    weights, _, _ = oracle.adapt({}, ITEMS[:2], [0.0, 1.0])
    weights, _, _ = oracle.adapt({}, ITEMS, [0.0, 1.0, 0.0], weights=weights)
    np.testing.assert_allclose(
        frozen.scores, oracle.rank({}, ITEMS, weights), atol=1e-5
    )


def test_arms_ask_their_model_and_version(run):
    gateway, experiment = run(
        *(Arm("old", version=1), Arm("other", model="model1"), Arm("now")),
        models=2,
        versions=(1, 2),
    )
    for arm, expected in (
        ("old", ("model0", 1)),
        ("other", ("model1", 2)),
        ("now", ("model0", 2)),
    ):
        for user in users_of(experiment, arm):
            told = rank(gateway, user).provenance
            assert (told.model, told.version) == expected
            assert told.arm == f"x/{arm}"


def test_version_that_is_gone_is_succeeded_and_the_answer_tells(run):
    gateway, experiment = run(Arm("gone", version=7), Arm("now"))
    (user,) = users_of(experiment, "gone", 1)
    told = rank(gateway, user).provenance
    assert (told.version, told.arm) == (1, "x/gone")


def test_version_or_model_that_is_not_there_costs_no_look_for_it(run):
    gateway, experiment = run(Arm("gone", version=7), Arm("now"))
    (user,) = users_of(experiment, "gone", 1)
    available_versions, looks = gateway.backend.available_versions, []

    async def counted(model):
        looks.append(model)
        return await available_versions(model)

    gateway.backend.available_versions = counted
    assert rank(gateway, user).provenance.version == 1
    assert submit(gateway, user, range(2)).accepted == 2
    with pytest.raises(grpc.RpcError, match="no model 'typo'"):
        rank(gateway, user, model="typo")
    assert looks == []


AGE = {"age": pb.FeatureValues(numbers=pb.NumberList(values=[30.0]))}


def test_feature_that_an_arms_model_does_not_have_counts_as_missing(
    run_without_age,
):
    gateway, experiment = run_without_age(
        Arm("now"), Arm("next", model="model1")
    )
    (user,) = users_of(experiment, "next", 1)
    told = rank(gateway, user, features=AGE).provenance
    assert (told.model, told.version) == ("model1", 3)
    assert submit(gateway, user, range(2), features=AGE).accepted == 2
    # What no model has is a mistake all the same, as is one in a request that
    # says whom it asks.
    for fields in (
        {"features": {"agee": AGE["age"]}},
        {"features": AGE, "model": "model1"},
    ):
        with pytest.raises(grpc.RpcError, match="no user feature"):
            rank(gateway, user, **fields)


def test_shadow_without_one_of_the_features_scores_what_was_shown(
    run_without_age,
):
    gateway, experiment = run_without_age(
        Arm("now"), shadows=(Arm("next", model="model1"),)
    )
    (user,) = users_of(experiment, "now", 1)
    rank(gateway, user, features=AGE)
    wait_until(lambda: len(lines(gateway, "exposure")) == 2)


def test_shadow_whose_version_is_gone_is_succeeded_as_well(run):
    gateway, experiment = run(
        Arm("a"), shadows=(Arm("old", version=7, max_support=0),)
    )
    (user,) = users_of(experiment, "a", 1)
    rank(gateway, user)
    wait_until(lambda: len(lines(gateway, "exposure")) == 2)
    assert {line["version"] for line in lines(gateway, "exposure")} == {1}


def test_shadow_that_learns_is_not_kept_from_it_by_one_that_does_not(run):
    gateway, experiment = run(
        Arm("a"),
        shadows=(
            Arm("off", model="model1", max_support=0),
            Arm("on", model="model1"),
        ),
        models=2,
    )
    (user,) = users_of(experiment, "a", 1)
    submit(gateway, user, range(3))
    key = UserKey("model1", user)
    wait_until(lambda: gateway.store.get(key))
    assert gateway.store.get(key).support_count == 3


def test_shadow_of_a_user_who_is_deleted_notes_nothing_any_more(run):
    gateway, experiment = run(
        Arm("a"), shadows=(Arm("slow", model="model1"),), models=2
    )
    (user,) = users_of(experiment, "a", 1)
    asked, go_on, ended = (threading.Event() for _ in range(3))
    backend_run = gateway.backend.run

    async def slow(model, request):
        if model == "model1":
            asked.set()
            try:
                assert await asyncio.to_thread(go_on.wait, 20)
            finally:
                ended.set()
        return await backend_run(model, request)

    gateway.backend.run = slow
    rank(gateway, user)
    assert asked.wait(20)
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=user))
    go_on.set()
    assert ended.wait(20)
    gateway.end_shadows()
    assert join(gateway.exposure_log(), 60.0) == {}


def hold(gateway, model="model0"):
    """Keeps back what a model is asked for.

    Returns:
        What is set once it was asked, and what lets the answer go.
    """
    asked, go_on = threading.Event(), threading.Event()
    backend_run = gateway.backend.run

    async def held(name, request):
        if name == model:
            asked.set()
            assert await asyncio.to_thread(go_on.wait, 20)
        return await backend_run(name, request)

    gateway.backend.run = held
    return asked, go_on


def recommend(gateway, user):
    return gateway.stub.Recommend(pb.RecommendRequest(user_id=user, k=3))


def feed_back(gateway, user):
    with contextlib.suppress(grpc.RpcError):
        submit(gateway, user, range(3))


@pytest.mark.parametrize("ask", [rank, recommend, feed_back])
def test_call_under_way_while_its_user_is_deleted_notes_nothing(run, ask):
    gateway, experiment = run(
        Arm("a"), shadows=(Arm("b", model="model1"),), models=2
    )
    (user,) = users_of(experiment, "a", 1)
    asked, go_on = hold(gateway)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, gateway, user)
        assert asked.wait(20)
        gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=user))
        go_on.set()
        answer.result(20)
    gateway.end_shadows()
    noted = [line["kind"] for line in gateway.exposure_log()]
    assert {*noted} == {"forget"}
    # Who comes back after that is somebody new.
    rank(gateway, user)
    assert lines(gateway, "exposure")


def test_call_that_begins_while_its_user_is_deleted_notes_nothing(
    run, monkeypatch
):
    gateway, experiment = run(Arm("a"))
    user, other = users_of(experiment, "a", 2)
    asked, go_on = threading.Event(), threading.Event()
    append_durably = LineWriter.append_durably

    async def slow(self, day, line):
        asked.set()
        assert await asyncio.to_thread(go_on.wait, 20)
        await append_durably(self, day, line)

    monkeypatch.setattr(LineWriter, "append_durably", slow)
    with ThreadPoolExecutor() as pool:
        deleted = pool.submit(
            gateway.stub.DeleteUser, pb.DeleteUserRequest(user_id=user)
        )
        assert asked.wait(20)
        rank(gateway, user)
        rank(gateway, other)
        go_on.set()
        deleted.result(20)
    assert len(lines(gateway, "exposure")) == 1


def test_shadow_counts_from_when_the_user_was_shown_the_list(run):
    gateway, experiment = run(
        Arm("a"), shadows=(Arm("slow", model="model1"),), models=2
    )
    (user,) = users_of(experiment, "a", 1)
    asked, go_on = hold(gateway, "model1")
    rank(gateway, user)
    assert asked.wait(20)
    # What the user makes of it comes back before the shadow has scored it.
    submit(gateway, user, range(3))
    go_on.set()
    wait_until(lambda: len(lines(gateway, "exposure")) == 2)
    joined = join(gateway.exposure_log(), 60.0)
    (served,), (shadow,) = joined["x", "a"], joined["x", "slow"]
    assert shadow.ms == served.ms
    assert shadow.labels == served.labels
    assert len(served.labels) == 3


def test_request_that_names_a_model_is_in_no_experiment(run):
    gateway, experiment = run(Arm("off", max_support=0))
    (user,) = users_of(experiment, "off", 1)
    assert submit(gateway, user, range(2), model="model0").accepted == 2
    told = rank(gateway, user, model="model0").provenance
    assert (told.arm, told.support_count) == ("", 2)
    assert lines(gateway, "exposure") == []


def test_users_outside_the_share_are_left_alone(run):
    gateway, experiment = run(Arm("off", max_support=0), share=0.5)
    (outside,) = users_of(experiment, None, 1)
    assert submit(gateway, outside, range(2)).accepted == 2
    assert rank(gateway, outside).provenance.arm == ""


def test_exposure_says_what_was_shown_and_outcome_what_came_of_it(run):
    gateway, experiment = run(Arm("a"), Arm("b"))
    (user,) = users_of(experiment, "b", 1)
    ranked = rank(gateway, user)
    submit(gateway, user, [1])
    (shown,) = lines(gateway, "exposure")
    assert (shown["arm"], shown["model"], shown["version"]) == (
        "b",
        "model0",
        1,
    )
    assert dict(zip(shown["items"], shown["scores"], strict=True)) == {
        item: pytest.approx(score, abs=1e-5)
        for item, score in zip(ITEMS, ranked.scores, strict=True)
    }
    (outcome,) = lines(gateway, "outcome")
    assert (outcome["item"], outcome["label"]) == ("003", 1.0)
    assert outcome["user"] == shown["user"] != user


def test_recommended_items_are_exposures_too(run):
    gateway, experiment = run(Arm("a"))
    (user,) = users_of(experiment, "a", 1)
    answer = gateway.stub.Recommend(pb.RecommendRequest(user_id=user, k=3))
    (shown,) = lines(gateway, "exposure")
    assert shown["items"] == list(answer.item_ids)


def test_shadow_scores_what_was_shown_and_is_never_shown(run):
    gateway, experiment = run(
        Arm("a"),
        shadows=(Arm("other", model="model1"), Arm("meta", max_support=0)),
        models=2,
    )
    (user,) = users_of(experiment, "a", 1)
    submit(gateway, user, range(3))
    wait_until(lambda: gateway.store.get(UserKey("model1", user)))
    answer = rank(gateway, user)
    assert answer.provenance.arm == "x/a"
    wait_until(lambda: len(lines(gateway, "exposure")) == 3)
    shown = {line["arm"]: line for line in lines(gateway, "exposure")}
    assert set(shown) == {"a", "other", "meta"}
    oracle = ToyOracle(ToyParameters.from_seed(1))
    scores = dict(zip(ITEMS, oracle.rank({}, ITEMS), strict=True))
    meta = dict(
        zip(shown["meta"]["items"], shown["meta"]["scores"], strict=True)
    )
    assert meta == {k: pytest.approx(v, abs=1e-5) for k, v in scores.items()}
    # The same model under another name, with weights of its own.
    assert shown["other"]["scores"] == shown["a"]["scores"]


def test_shadow_that_fails_hurts_nobody(run, caplog):
    gateway, experiment = run(Arm("a"), shadows=(Arm("gone", model="nowhere"),))
    (user,) = users_of(experiment, "a", 1)
    with caplog.at_level("INFO"):
        assert len(rank(gateway, user).scores) == 3
        wait_until(lambda: "A shadow was not asked" in caplog.text)


def test_deleted_user_is_in_no_report(run):
    gateway, experiment = run(Arm("a"), Arm("b"))
    stays, goes = users_of(experiment, "a", 2)
    for user in (stays, goes):
        rank(gateway, user)
        submit(gateway, user, range(3))
    gateway.stub.DeleteUser(pb.DeleteUserRequest(user_id=goes))
    joined = join(gateway.exposure_log(), 60.0)
    report = make_report(experiment, joined, draws=10)
    assert (report.arms["a"].users, report.arms["a"].judged) == (1, 3)


def test_report_of_live_traffic_finds_the_arm_that_learns(run, oracle):
    gateway, experiment = run(Arm("off", max_support=0), Arm("on"))
    # Users who like the one item that the model puts second.
    liked = int(np.argsort(oracle.rank({}, ITEMS))[1])
    for arm in ("off", "on"):
        for user in users_of(experiment, arm, 12):
            for moment in range(4):
                rank(gateway, user)
                gateway.stub.SubmitFeedback(
                    pb.SubmitFeedbackRequest(
                        user_id=user,
                        events=[
                            pb.FeedbackEvent(
                                event_id=f"{moment}-{item}",
                                item_id=item,
                                label=float(number == liked),
                            )
                            for number, item in enumerate(ITEMS)
                        ],
                    )
                )
    joined = join(gateway.exposure_log(), 60.0)
    report = make_report(experiment, joined, draws=200)
    lift = report.arms["on"].lifts["wgauc"]
    assert lift.low > 0.0
    assert report.arms["on"].judged == 12 * 4 * 3
    assert not report.sizes_are_suspicious
    json.dumps(report.as_json())
