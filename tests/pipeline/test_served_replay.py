"""The closing act against real processes, judged by an oracle in NumPy.

Model server, gateway and store run as they do in production, with the toy
model; what they answer must be what the toy's closed form gives for the same
stream. Written once more, in plain Python, as the offline evaluation.
"""

import itertools
import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pyarrow as pa
import pytest

from components.cold_start_evaluator.stream_scoring import online_scores
from components.cold_users import ColdUser
from components.served_model import ServedModel
from pipeline.cold_stream import ColdStream
from pipeline.evaluation import Evaluation
from pipeline.example_user import trace_example_user
from pipeline.replay import replay
from pipeline.replay_session import Session
from pipeline.report import DatasetNotes, ReportInputs, render_report
from pipeline.skew import check_skew, measure_skew
from pipeline.stored_bytes import bytes_per_user
from pipeline.summary import summarize
from serving.client import RecommenderClient
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import is_held_back
from serving.contract.regimes import JOINT, OFFLINE, ONLINE
from serving.contract.support import SupportEvent, merge_support
from serving.contract.timeline import arrival_order
from serving.launch import start_gateway, start_model_server
from serving.store import LmdbStore
from tests.helpers.toy_model import (
    ITEM_IDS,
    NUM_ADAPTIVE,
    SEGMENTS,
    export_toy,
)

pytestmark = pytest.mark.e2e


def _user(index: int) -> ColdUser:
    rng = np.random.default_rng(index)
    count = 31 + 8 * index
    features = {
        "segment": SEGMENTS[index % len(SEGMENTS)],
        "tags": ("drama", "war"),
        "age": 20.0 + index,
    }
    if index == 0:
        features = {}
    return ColdUser(
        user_id=f"ü{index}",
        features=features,
        item_ids=rng.choice(np.array([*ITEM_IDS, "unknown"], object), count),
        labels=rng.integers(0, 2, count).astype(np.float32),
        positions=np.arange(count),
        timestamps=500 * index + 60 * np.arange(count),
    )


def _oracle_table(stream, adaptive, joint) -> pa.Table:
    """Scores every judged row with the closed form, user by user."""
    rows = []
    for user in stream.users:
        learned = {}
        reservoir, count, weights = (), 0, None

        def learn(chosen, user=user):
            nonlocal reservoir, count, weights
            support = merge_support(
                reservoir,
                [
                    SupportEvent(user.item_ids[r], float(user.labels[r]))
                    for r in chosen
                ],
                count,
                adaptive.parameters.manifest().reservoir_events,
            )
            weights, _, _ = adaptive.adapt(
                user.features,
                [event.item_id for event in support.events],
                [event.label for event in support.events],
                None,
                weights,
            )
            reservoir, count = support.reservoir, support.count

        learn(range(10))
        learned[OFFLINE] = weights
        for first in range(10, min(len(user.positions), 90), 10):
            window = range(first, min(first + 10, len(user.positions)))
            learned[ONLINE] = weights
            for r in window:
                item = [user.item_ids[r]]
                rows.append(
                    {
                        "user_id": user.user_id,
                        "window": first // 10 - 1,
                        "item_id": item[0],
                        "label": float(user.labels[r]),
                        JOINT: joint.rank(user.features, item)[0],
                        **{
                            regime: adaptive.rank(user.features, item, phi)[0]
                            for regime, phi in learned.items()
                        },
                    }
                )
            learn(window)
    return pa.Table.from_pylist(rows)


def test_served_scores_equal_the_closed_form_in_every_regime(tmp_path):
    bases = {name: tmp_path / name for name in ("adaptower", "joint")}
    adaptive = export_toy(bases["adaptower"], seed=1)
    joint = export_toy(bases["joint"], seed=2, model_name="joint")
    stream = ColdStream(tuple(_user(index) for index in range(8)))
    with (
        start_model_server(bases) as model_server,
        start_gateway(
            model_server.target, bases, store=tmp_path / "store"
        ) as gateway,
        RecommenderClient(gateway.target) as client,
    ):
        session = Session(client)
        result = replay(client, stream, session=session)
        trace = trace_example_user(session, stream, result)
    with LmdbStore(tmp_path / "store") as store:
        sizes = bytes_per_user(store, "adaptower", session.prefix(ONLINE))

    evaluation = Evaluation(_oracle_table(stream, adaptive, joint), {})
    skew = measure_skew(result, evaluation)
    check_skew(skew)
    assert skew.users == 8
    assert max(skew.score.values()) < 1e-4
    assert result.degraded == 0
    assert set(result.model_versions) == {"adaptower/1", "joint/1"}
    assert sizes["weights"] == 4 * NUM_ADAPTIVE
    assert sizes["weights"] < sizes["record"] < 1000
    summary = summarize(
        result,
        dataset="toy",
        revision="abc",
        stage_seconds={"replay": result.seconds},
        bytes_per_user=sizes,
        skew=skew,
    )
    inputs = ReportInputs(summary, result, DatasetNotes("toy"), trace=trace)
    assert "8 cold users" in render_report(inputs)


def test_served_meta_updates_are_those_of_the_evaluation(tmp_path):
    """Enough users for the meta-initialization to move, at the defaults."""
    bases = {name: tmp_path / name for name in ("adaptower", "joint")}
    export_toy(bases["adaptower"], seed=1)
    export_toy(bases["joint"], seed=2, model_name="joint")
    users = [_long_user(index) for index in range(13)]
    order = arrival_order(users)
    stream = ColdStream(tuple(users[index] for index in order))
    with (
        start_model_server(bases) as model_server,
        start_gateway(
            model_server.backend,
            bases,
            flags=["--meta-update=inline", "--backend-timeout-seconds=30"],
        ) as gateway,
        RecommenderClient(gateway.target, 60.0) as client,
    ):
        session = Session(client)
        result = replay(client, stream, session=session)
        last = client.rank("somebody new", ["000"])
    model = ServedModel.load(bases["adaptower"] / "1")
    expected = online_scores(
        model,
        users,
        OnlineMetaConfig(),
    )
    assert expected.progress.promoted >= 1
    assert (
        last.provenance.meta_init_version == expected.progress.current.version
    )
    for arrival, index in enumerate(order):
        np.testing.assert_allclose(
            result.scores[ONLINE][result.rows.user == arrival],
            expected.scores[index],
            atol=1e-4,
        )


def _long_user(index: int) -> ColdUser:
    """The first four judge meta states; they come first."""
    rng = np.random.default_rng(index)
    judges = index < 4
    start = 0 if judges else rng.integers(0, 9000)
    names = (
        name
        for number in itertools.count()
        if is_held_back(name := f"{index}-{number}", 0.1) == judges
    )
    return ColdUser(
        user_id=next(names),
        features={"age": 20.0 + index} if index % 3 else {},
        item_ids=rng.choice(np.array(ITEM_IDS, object), 90),
        # More likes than the toy expects: a step toward them is better.
        labels=(rng.random(90) < 0.9).astype(np.float32),
        positions=np.arange(90),
        timestamps=start + 60 * np.arange(90),
    )
