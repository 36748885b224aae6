"""Known users are learned for the next version, as the oracle learns them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.artifacts import RebaseResult
from components.rebase import executor, rebaser
from components.rebase.component import Rebase
from components.rebase.rebaser import RebaseConfig, Rebaser
from components.served_model import ServedModel
from serving.contract.support import SupportEvent
from serving.errors import StoreError
from serving.event_log.config import open_event_log
from serving.event_log.entry import LoggedEvent, Submission
from serving.event_log.event_log import LogConfig
from serving.online.told import encode_told
from serving.protos import recommender_pb2 as pb
from serving.store import UserKey, UserRecord, fingerprint_digest
from serving.store.config import StoreConfig, open_store
from serving.store.record_bytes import encode_record
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import (
    ITEM_IDS,
    NUM_ADAPTIVE,
    ToyOracle,
    ToyParameters,
    export_toy,
)

NAME = "adaptower"
OLD, NEW = (ToyParameters.from_seed(seed) for seed in (1, 2))
ORACLE = ToyOracle(NEW)
FEATURES = {"segment": "student", "tags": ["drama", "war"], "age": 31.0}
SEGMENT_ONLY = {"segment": "artist"}
# Gone from the version that learns.
UNKNOWN = {"segment": "artist", "country": "de"}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("model")
    export_toy(base, seed=2)
    return base / "1"


@pytest.fixture(params=["lmdb", "redis"])
def config(request, tmp_path, model_dir):
    if request.param == "lmdb":
        yield RebaseConfig(
            str(model_dir), NAME, StoreConfig(str(tmp_path / "store"))
        )
        return
    server = RunningRedis()
    yield RebaseConfig(str(model_dir), NAME, StoreConfig(server.url))
    server.close()


def told(features):
    values = {
        name: pb.FeatureValues(numbers=pb.NumberList(values=[value]))
        if isinstance(value, float)
        else pb.FeatureValues(
            strings=pb.StringList(
                values=[value] if isinstance(value, str) else value
            )
        )
        for name, value in features.items()
    }
    return encode_told(values)


def make_record(user_id, num_events=5, features=FEATURES, **changes):
    random = np.random.default_rng(list(user_id.encode()))
    events = tuple(
        SupportEvent(str(random.choice(ITEM_IDS)), float(random.integers(2)))
        for _ in range(num_events)
    )
    record = UserRecord(
        key=UserKey(NAME, user_id),
        fingerprint=fingerprint_digest(OLD.fingerprint),
        sequence=1,
        support_count=2 * num_events,
        weights=random.normal(size=NUM_ADAPTIVE).astype(np.float32),
        reservoir=events,
        features=told(features),
    )
    return dataclasses.replace(record, **changes)


def expected(record, features=FEATURES):
    weights, _, _ = ORACLE.adapt(
        features,
        [event.item_id for event in record.reservoir],
        [event.label for event in record.reservoir],
    )
    return weights


def fill(config, *records):
    with open_store(config.store) as store:
        stored = store.compare_and_put_many(records)
    assert all(each is True for each in stored)


def read(config, *user_ids):
    with open_store(config.store) as store:
        return store.get_many([UserKey(NAME, id_) for id_ in user_ids])


def run(config, folder, **blessings):
    """Runs the component's executor; returns its counts and its summary."""
    folder.mkdir()
    model = standard_artifacts.Model()
    # As the trainer leaves it.
    model.uri = str(folder / "model")
    (folder / "model").mkdir()
    (folder / "model/Format-Serving").symlink_to(config.model_dir)
    result = RebaseResult()
    result.uri = str(folder / "result")
    (folder / "result").mkdir()
    executor.Executor().Do(
        {"model": [model]} | {k: [v] for k, v in blessings.items()},
        {"result": [result]},
        {
            "model_name": config.model_name,
            "store": config.store.location,
            "ttl_seconds": None,
        },
    )
    return executor.read_counts(result.uri), result.get_string_custom_property(
        "summary"
    )


def blessing(kind, blessed):
    artifact = kind()
    artifact.set_int_custom_property("blessed", blessed)
    return artifact


def found_weights(record, parameters=NEW):
    return record.weights_for(parameters.fingerprint, NUM_ADAPTIVE)


def test_everybody_known_is_learned_as_the_oracle_learns(config, tmp_path):
    told_of = {
        "all": FEATURES,
        "some": SEGMENT_ONLY,
        "other": UNKNOWN,
        "none": {},
    }
    records = [
        make_record(f"{name}-{number}", 1 + number, features)
        for name, features in told_of.items()
        for number in range(5)
    ]
    fill(config, *records, make_record("no events", 0, support_count=3))
    counts, summary = run(config, tmp_path / "first")
    assert counts == {"known": 21, "rebased": 20, "no_events": 1, "refused": 0}
    assert summary == "20 of 21 known users learned again, 1 no events"
    for before in records:
        (after,) = read(config, before.key.user_id)
        learned = found_weights(after)
        features = told_of[before.key.user_id.split("-")[0]]
        np.testing.assert_allclose(
            learned.weights, expected(before, features), atol=1e-5
        )
        assert learned.support_count == before.support_count
        # Those of the version that serves are as they were.
        np.testing.assert_array_equal(
            found_weights(after, OLD).weights, before.weights
        )
        assert after.updated_ms == before.updated_ms

    # A second run finds only who came since.
    fill(config, make_record("late"))
    counts, _ = run(config, tmp_path / "second")
    assert (counts["known"], counts["rebased"]) == (22, 1)
    assert read(config, "all-0")[0].sequence == 2


def test_other_models_users_are_left_alone(config, tmp_path):
    other = make_record("u")
    other = dataclasses.replace(other, key=UserKey("joint", "u"))
    fill(config, other)
    counts, _ = run(config, tmp_path / "run")
    assert "rebased" not in counts
    with open_store(config.store) as store:
        assert encode_record(store.get(other.key)) == encode_record(other)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("model_blessing", standard_artifacts.ModelBlessing),
        ("infra_blessing", standard_artifacts.InfraBlessing),
    ],
)
def test_nobody_is_learned_for_a_model_that_will_not_be_pushed(
    tmp_path, model_dir, key, kind
):
    config = RebaseConfig(
        str(model_dir), NAME, StoreConfig(str(tmp_path / "store"))
    )
    fill(config, make_record("u"))
    counts, summary = run(config, tmp_path / "no", **{key: blessing(kind, 0)})
    assert (counts, summary) == ({}, "not blessed, nobody learned")
    assert read(config, "u")[0].sequence == 1
    counts, _ = run(config, tmp_path / "yes", **{key: blessing(kind, 1)})
    assert counts["rebased"] == 1


def test_the_log_supplements_what_the_record_keeps(tmp_path, model_dir):
    config = RebaseConfig(
        str(model_dir), NAME, StoreConfig(str(tmp_path / "store"))
    )
    record = make_record("u", 2, support_count=6)
    with open_event_log(config.store, LogConfig()) as log:
        events = [
            LoggedEvent(str(n), ITEM_IDS[n], float(n % 2)) for n in range(6)
        ]
        (entry,) = log.append([Submission(record.key, tuple(events))])
    fill(config, dataclasses.replace(record, log_position=entry.position))
    run(config, tmp_path / "run")
    (after,) = read(config, "u")
    whole = dataclasses.replace(record, reservoir=after.reservoir)
    assert [event.item_id for event in after.reservoir] == list(ITEM_IDS[:6])
    np.testing.assert_allclose(
        found_weights(after).weights, expected(whole), atol=1e-5
    )


def test_who_writes_meanwhile_loses_nothing_and_is_learned_all_the_same(
    config, monkeypatch
):
    busy, gone, quiet = (make_record(name) for name in ("b", "g", "q"))
    fill(config, busy, gone, quiet)
    rebased = Rebaser(config)
    # A process opens a folder once.
    store = rebased._store
    event = SupportEvent(ITEM_IDS[0], 1.0)
    learn, calls = rebased._learn, []

    def learn_while_others_write(tasks):
        calls.append(sorted(task.record.key.user_id for task in tasks))
        if len(calls) == 1:
            changed = dataclasses.replace(
                busy,
                sequence=2,
                support_count=11,
                reservoir=(*busy.reservoir, event),
            )
            assert store.compare_and_put(changed)
            store.delete(gone.key)
        return learn(tasks)

    monkeypatch.setattr(rebased, "_learn", learn_while_others_write)
    counts = rebased.rebase(["b", "g", "q", "nobody"])
    rebased.close()
    assert calls == [["b", "g", "q"], ["b"]]
    assert (counts["rebased"], counts["gone"]) == (2, 2)
    assert read(config, "g") == [None]
    (after,) = read(config, "b")
    assert (after.sequence, after.support_count) == (3, 11)
    assert after.reservoir[-1] == event
    np.testing.assert_allclose(
        found_weights(after).weights, expected(after), atol=1e-5
    )


def test_users_written_again_and_again_are_given_up_and_counted(
    config, monkeypatch
):
    fill(config, make_record("u"))
    rebased = Rebaser(config)
    monkeypatch.setattr(
        rebased._store, "compare_and_put_many", lambda rs: [False] * len(rs)
    )
    assert rebased.rebase(["u"])[rebaser.BUSY] == 1
    rebased.close()


def test_users_whom_the_model_gives_nonsense_keep_what_they_have(
    tmp_path, model_dir, monkeypatch
):
    config = RebaseConfig(
        str(model_dir), NAME, StoreConfig(str(tmp_path / "store"))
    )
    fill(config, make_record("a"), make_record("b"))
    rebased = Rebaser(config)
    call = rebased._model.call

    def first_is_nan(signature, inputs):
        outputs = call(signature, inputs)
        outputs["adaptive_weights"][0] = np.nan
        return outputs

    monkeypatch.setattr(
        ServedModel, "call", lambda self, *args: first_is_nan(*args)
    )
    counts = rebased.rebase(["a", "b"])
    rebased.close()
    assert (counts["refused"], counts["rebased"]) == (1, 1)
    assert [record.sequence for record in read(config, "a", "b")] == [1, 2]


def test_a_password_is_read_from_the_environment(
    tmp_path, model_dir, monkeypatch
):
    monkeypatch.setenv("SECRET_FOLDER", str(tmp_path / "secret"))
    store = StoreConfig(str(tmp_path / "secret"))
    config = RebaseConfig(str(model_dir), NAME, store)
    fill(config, make_record("u"))
    named = RebaseConfig(str(model_dir), NAME, StoreConfig("$SECRET_FOLDER"))
    assert run(named, tmp_path / "run")[0]["rebased"] == 1


def test_a_store_that_is_not_there_stops_the_run(tmp_path, model_dir):
    config = RebaseConfig(
        str(model_dir), NAME, StoreConfig("redis://localhost:1")
    )
    with pytest.raises(StoreError):
        Rebaser(config)


def test_the_component_can_be_wired_without_blessings():
    node = Rebase(
        model=types.Channel(type=standard_artifacts.Model),
        store="redis://:$STORE_PASSWORD@store",
        model_name=NAME,
    )
    assert set(node.outputs) == {"result"}
    assert node.exec_properties["store"] == "redis://:$STORE_PASSWORD@store"
