import asyncio
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import BackendError
from serving.gateway import kept_versions
from serving.gateway import scoring as scoring_module
from serving.gateway.batcher import RankBatcher
from serving.gateway.scoring import Scoring
from serving.metrics import Metrics
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE, ToyOracle

ORACLES = {version: ToyOracle.from_seed(version) for version in range(1, 8)}
MODELS = {
    version: ServedModel("shop", version, oracle.parameters.manifest())
    for version, oracle in ORACLES.items()
}
WEIGHTS = np.linspace(-1, 1, NUM_ADAPTIVE).astype(np.float32)
ROW = RankRow(WEIGHTS, {"age": 30.0, "tags": ["war"]}, ["003", "001"])


class Bench:
    """Scoring over the oracle, step by step."""

    def __init__(self, max_items=100):
        self.backend = OracleBackend(dict(ORACLES))
        self.metrics = Metrics()
        self.scoring = Scoring(
            RankBatcher(self.backend), max_items, self.metrics
        )

    def score(self, row=ROW, version=1, model=None):
        """Scores, and checks them; returns the signatures asked for."""
        self.backend.calls.clear()
        found = asyncio.run(self.scoring.score(model or MODELS[version], row))
        expected = ORACLES[version].rank(
            row.features, row.item_ids, row.weights
        )
        np.testing.assert_allclose(found.scores, expected, atol=1e-5)
        assert found.scores.dtype == np.float32
        known = [item_id in ITEM_IDS for item_id in row.item_ids]
        if found.known is not None:
            assert found.known.tolist() == known
        else:
            assert all(known)
        return self.backend.calls


@pytest.fixture
def bench():
    return Bench()


def test_second_rank_needs_no_model_server(bench):
    assert bench.score() == ["embed"]
    assert bench.score() == []
    assert bench.score(ROW._replace(item_ids=["001"])) == []
    counters = bench.metrics.counters()
    name = 'adaptower_scored_ranks_total{{vectors="{}"}}'
    assert counters[name.format("kept")] == 2
    assert counters[name.format("asked")] == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": WEIGHTS * np.float32(1.001)},
        {"features": {"age": 31.0, "tags": ["war"]}},
        {"features": {"age": 30.0}},
        {"item_ids": ["003", "002"]},
    ],
    ids=["moved weights", "another age", "no tags", "a new item"],
)
def test_what_changed_is_asked_for(bench, changed):
    bench.score()
    assert bench.score(ROW._replace(**changed)) == ["embed"]
    assert bench.score(ROW._replace(**changed)) == []
    assert bench.score() == []


def test_only_what_is_missing_is_asked_for(bench):
    sent = []
    embed = MODELS[1].templates.embed

    def remember(rows):
        sent.extend(row.item_ids for row in rows)
        return embed(rows)

    model = dataclasses.replace(MODELS[1])
    model.templates.embed = remember
    bench.score(model=model)
    bench.score(ROW._replace(item_ids=["003", "004", "001"]), model=model)
    bench.score(ROW._replace(weights=WEIGHTS + 1), model=model)
    assert [[*items] for items in sent] == [["003", "001"], ["004"], []]


def test_unknown_items_are_asked_for_each_time_and_not_kept(bench):
    row = ROW._replace(item_ids=["003", "nowhere"])
    for _ in range(3):
        assert bench.score(row) == ["embed"]
    assert bench.score() == ["embed"]
    assert bench.score() == []


def test_versions_keep_their_own(bench):
    for version in (1, 2):
        assert bench.score(version=version) == ["embed"]
    for version in (1, 2):
        assert bench.score(version=version) == []
    # The same number with another fixed part, as of a folder pushed anew.
    anew = dataclasses.replace(
        MODELS[1],
        manifest=dataclasses.replace(MODELS[1].manifest, fingerprint="another"),
    )
    assert bench.score(model=anew) == ["embed"]


def test_versions_used_last_are_kept(bench):
    for version in (1, 2, 3, 4, 1, 5):
        bench.score(version=version)
    assert [bench.score(version=v) for v in (1, 3, 4, 5)] == [[]] * 4
    assert bench.score(version=2) == ["embed"]


def prepare(bench, version):
    asyncio.run(bench.scoring.ask_for_items(MODELS[version]))


def test_version_that_is_to_serve_is_asked_for_the_items_of_the_one_before(
    bench, monkeypatch
):
    monkeypatch.setattr(scoring_module, "MAX_SHARED_CANDIDATES", 2)
    for item_ids in (["003", "001"], ["004"]):
        bench.score(ROW._replace(item_ids=item_ids))
    bench.backend.calls.clear()
    prepare(bench, 2)
    assert bench.backend.calls == ["embed", "embed"]
    sent = []
    embed = MODELS[2].templates.embed
    model = dataclasses.replace(MODELS[2])

    def remember(rows):
        sent.extend([*row.item_ids] for row in rows)
        return embed(rows)

    model.templates.embed = remember
    row = ROW._replace(item_ids=["001", "004", "003"])
    bench.score(row, version=2, model=model)
    assert sent == [[]]


def test_items_of_all_versions_are_asked_for_whichever_was_asked_last(bench):
    bench.score(ROW._replace(item_ids=["003", "001"]), version=1)
    bench.score(ROW._replace(item_ids=["004"]), version=3)
    # An arm of an experiment has met the new one already.
    bench.score(ROW._replace(item_ids=["005"]), version=2)
    prepare(bench, 2)
    row = ROW._replace(item_ids=["001", "003", "004", "005"])
    assert bench.score(row, version=2) == []


def test_other_models_take_no_room(bench):
    others = [
        dataclasses.replace(MODELS[version], name=f"other{version}")
        for version in range(1, 7)
    ]
    for model in (MODELS[1], *others):
        bench.score(version=model.version, model=model)
    for model in (MODELS[1], *others):
        assert bench.score(version=model.version, model=model) == []


def test_first_version_is_asked_for_nothing(bench):
    prepare(bench, 1)
    assert bench.backend.calls == []


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.sampled_from([*ITEM_IDS, "nowhere", ""]),
                min_size=1,
                max_size=9,
            ),
            st.integers(0, 3),
            st.sampled_from([1, 2]),
        ),
        max_size=20,
    ),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_scores_are_the_models_whatever_was_asked_before(asked, max_items):
    bench = Bench(max_items)
    for item_ids, user, version in asked:
        row = RankRow(WEIGHTS * user, {"age": float(user)}, item_ids)
        bench.score(row, version)


def test_ranks_at_the_same_time_share_a_request(bench):
    async def run():
        rows = [ROW._replace(weights=WEIGHTS * n) for n in range(5)]
        return rows, await asyncio.gather(
            *(bench.scoring.score(MODELS[1], row) for row in rows)
        )

    rows, found = asyncio.run(run())
    assert bench.backend.calls == ["embed"]
    for row, each in zip(rows, found, strict=True):
        np.testing.assert_allclose(
            each.scores,
            ORACLES[1].rank(row.features, row.item_ids, row.weights),
            atol=1e-5,
        )


def test_model_without_vectors_scores_itself(bench):
    model = dataclasses.replace(
        MODELS[1],
        manifest=dataclasses.replace(MODELS[1].manifest, vector_size=0),
    )
    found = asyncio.run(bench.scoring.score(model, ROW))
    np.testing.assert_allclose(
        found.scores,
        ORACLES[1].rank(ROW.features, ROW.item_ids, ROW.weights),
        atol=1e-5,
    )
    assert bench.backend.calls == ["rank"]


def test_nothing_is_kept_if_nothing_may_be():
    bench = Bench(max_items=0)
    for _ in range(2):
        asyncio.run(bench.scoring.score(MODELS[1], ROW))
    assert bench.backend.calls == ["rank", "rank"]


def test_long_lists_are_asked_for_in_parts_and_kept(bench, monkeypatch):
    monkeypatch.setattr(scoring_module, "MAX_SHARED_CANDIDATES", 3)
    row = ROW._replace(item_ids=[*ITEM_IDS])
    assert bench.score(row) == ["embed"] * 3
    assert bench.score(row) == []


def test_more_new_items_than_may_be_kept_are_scored_by_the_model():
    bench = Bench(max_items=3)
    row = ROW._replace(item_ids=[*ITEM_IDS])
    for _ in range(2):
        assert bench.score(row) == ["rank"]
    assert bench.score() == ["embed"]


def test_users_are_dropped_when_one_is_deleted_and_items_are_not(bench):
    bench.score()
    bench.scoring.kept.forget_users()
    sent = []
    bench.backend.run, run = None, bench.backend.run

    async def remember(model, request):
        sent.append(request)
        return await run(model, request)

    bench.backend.run = remember
    assert bench.score() == ["embed"]
    assert b"003" not in sent[0]


def test_who_is_deleted_while_the_model_server_is_asked_is_not_kept(bench):
    predict = bench.backend.predict

    async def answer(*arguments):
        outputs = await predict(*arguments)
        bench.scoring.kept.forget_users()
        return outputs

    bench.backend.predict = answer
    assert bench.score() == ["embed"]
    bench.backend.predict = predict
    assert bench.score() == ["embed"]
    assert bench.score() == []


def test_who_is_deleted_between_two_parts_of_a_long_list_is_not_kept(
    bench, monkeypatch
):
    monkeypatch.setattr(scoring_module, "MAX_SHARED_CANDIDATES", 1)
    predict = bench.backend.predict
    deletions = [bench.scoring.kept.forget_users]

    async def answer(*arguments):
        outputs = await predict(*arguments)
        if deletions:
            deletions.pop()()
        return outputs

    bench.backend.predict = answer
    assert bench.score() == ["embed", "embed"]
    assert not bench.scoring.kept.of(MODELS[1]).has_users


def test_users_not_seen_for_long_are_dropped_though_nobody_comes(monkeypatch):
    monkeypatch.setattr(kept_versions, "_USER_SECONDS", 0.02)
    bench = Bench()

    async def run():
        await bench.scoring.score(MODELS[1], ROW)
        (kept,) = bench.scoring.kept._versions.values()
        assert kept.has_users
        while kept.has_users:
            await asyncio.sleep(0.005)
        # Then nothing wakes the event loop any more.
        assert bench.scoring.kept._ageing is None
        bench.backend.calls.clear()
        await bench.scoring.score(MODELS[1], ROW)
        assert bench.backend.calls == ["embed"]

    asyncio.run(asyncio.wait_for(run(), PATIENT_SECONDS))


@pytest.mark.parametrize(
    ("output", "broken"),
    [
        ("user_vector", lambda values: values[:, :-1]),
        ("item_vector", lambda values: values[:, :-1]),
        ("item_vector", lambda values: values[..., :-1]),
        ("item_known", lambda values: values[:, :-1]),
    ],
)
def test_vectors_of_another_shape_are_an_error_that_names_the_version(
    bench, output, broken
):
    predict = bench.backend.predict

    async def answer(*arguments):
        outputs = await predict(*arguments)
        outputs[output] = broken(outputs[output])
        return outputs

    bench.backend.predict = answer
    with pytest.raises(BackendError, match="Version 1 of 'shop' gave vectors"):
        asyncio.run(bench.scoring.score(MODELS[1], ROW))
    bench.backend.predict = predict
    assert bench.score() == ["embed"]


@pytest.mark.parametrize("output", ["user_vector", "item_vector", "item_known"])
def test_a_missing_output_is_the_versions_fault(bench, output):
    predict = bench.backend.predict

    async def answer(*arguments):
        outputs = await predict(*arguments)
        del outputs[output]
        return outputs

    bench.backend.predict = answer
    with pytest.raises(BackendError, match=f"'shop' gave no {output}"):
        asyncio.run(bench.scoring.score(MODELS[1], ROW))
