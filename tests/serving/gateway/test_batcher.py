import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import (
    BackendDeadlineError,
    BackendError,
    UnknownModelError,
)
from serving.gateway.batcher import (
    MAX_CALLS,
    MAX_ROWS,
    MAX_SHARED_CANDIDATES,
    RankBatcher,
)
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ITEM_IDS, ToyOracle, ToyParameters

ORACLES = {v: ToyOracle(ToyParameters.from_seed(v)) for v in (1, 2)}
MODELS = {
    v: ServedModel("shop", v, oracle.parameters.manifest())
    for v, oracle in ORACLES.items()
}


class SlowBackend(OracleBackend):
    """Answers a call only when told to.

    Attributes:
        batches: Rows of each call, in the order they came.
        cancelled: How many calls were.
    """

    def __init__(self, fail=None):
        super().__init__(dict(ORACLES))
        self.batches = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self.fail = fail or (lambda item_ids: None)

    async def run(self, model, request):
        items = pb.PredictRequest.FromString(request).inputs["item_id"]
        self.batches.append(items.tensor_shape.dim[0].size)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        error = self.fail(items.string_val)
        if error is not None:
            raise error
        return await super().run(model, request)


def row(number, size=3):
    random = np.random.default_rng(number)
    weights = random.normal(size=5).astype(np.float32)
    items = [str(item) for item in random.choice(ITEM_IDS, size)]
    features = {"age": float(number), "tags": ["drama"] * (number % 3)}
    return RankRow(weights, features, items)


def expected(row, version=1):
    return ORACLES[version].rank(row.features, row.item_ids, row.weights)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def start(batcher, *rows, version=1):
    return [
        asyncio.ensure_future(batcher.rank(MODELS[version], row))
        for row in rows
    ]


async def occupy(batcher, rows):
    """Has every call that may be on its way carry one rank."""
    ranks = []
    for row in rows[:MAX_CALLS]:
        ranks += start(batcher, row)
        await settle()
    return ranks


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 99), st.integers(1, 20), st.sampled_from([1, 2])
        )
    )
)
def test_everybody_gets_their_own_scores(asked):
    async def run():
        backend = SlowBackend()
        backend.go.set()
        batcher = RankBatcher(backend)
        return await asyncio.gather(
            *(
                batcher.rank(MODELS[version], row(number, size))
                for number, size, version in asked
            )
        )

    answers = asyncio.run(run())
    for (number, size, version), answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(
            answer.scores, expected(row(number, size), version), atol=1e-5
        )
        assert answer.known.all()


def test_lonely_rank_is_sent_at_once_and_alone():
    async def run():
        backend = SlowBackend()
        (rank,) = start(RankBatcher(backend), row(1))
        await settle()
        assert backend.batches == [1]
        backend.go.set()
        return await rank

    np.testing.assert_allclose(
        asyncio.run(run()).scores, expected(row(1)), atol=1e-5
    )


def test_what_comes_at_once_leaves_together():
    async def run():
        backend = SlowBackend()
        rows = [row(number) for number in range(7)]
        ranks = start(RankBatcher(backend), *rows)
        await settle()
        assert backend.batches == [7]
        backend.go.set()
        for each, answer in zip(
            rows, await asyncio.gather(*ranks), strict=True
        ):
            np.testing.assert_allclose(answer.scores, expected(each), atol=1e-5)

    asyncio.run(run())


def test_what_comes_meanwhile_leaves_together():
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        rows = [row(number) for number in range(MAX_CALLS + MAX_ROWS + 5)]
        ranks = await occupy(batcher, rows)
        ranks += start(batcher, *rows[MAX_CALLS:])
        await settle()
        assert backend.batches == [1] * MAX_CALLS
        backend.go.set()
        answers = await asyncio.gather(*ranks)
        assert sorted(backend.batches[MAX_CALLS:]) == [5, MAX_ROWS]
        for each, answer in zip(rows, answers, strict=True):
            np.testing.assert_allclose(answer.scores, expected(each), atol=1e-5)

    asyncio.run(run())


def test_versions_and_very_unequal_lengths_do_not_mix():
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        ranks = await occupy(batcher, [row(n) for n in range(MAX_CALLS)])
        ranks += start(batcher, row(1, 3), row(2, 3))
        ranks += start(batcher, row(3, 3), version=2)
        ranks += start(batcher, row(4, 100), row(5, 2))
        await settle()
        backend.go.set()
        await asyncio.gather(*ranks)
        # 2 and 3 candidates are of one length, as bits go; 100 are not.
        assert sorted(backend.batches[MAX_CALLS:]) == [1, 1, 3]

    asyncio.run(run())


def test_long_candidate_lists_hold_nobody_up():
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        start(
            batcher,
            *[row(n, MAX_SHARED_CANDIDATES + 1) for n in range(3)],
        )
        (short,) = start(batcher, row(9))
        await settle()
        assert backend.batches == [1] * 4
        backend.go.set()
        return await short

    np.testing.assert_allclose(
        asyncio.run(run()).scores, expected(row(9)), atol=1e-5
    )


def test_caller_who_hangs_up_costs_the_others_nothing():
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        rows = [row(n) for n in range(MAX_CALLS + 4)]
        ranks = await occupy(batcher, rows)
        ranks += start(batcher, *rows[MAX_CALLS:])
        await settle()
        # One that is on its way, and one that waits.
        ranks.pop(0).cancel()
        ranks.pop(-1).cancel()
        await settle()
        backend.go.set()
        answers = await asyncio.gather(*ranks)
        assert backend.batches == [1] * MAX_CALLS + [3]
        for number, answer in enumerate(answers, start=1):
            np.testing.assert_allclose(
                answer.scores, expected(row(number)), atol=1e-5
            )

    asyncio.run(run())


def test_call_that_nobody_waits_for_is_cancelled_and_makes_way():
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        rows = [row(n) for n in range(6)]
        first = start(batcher, *rows[:2])
        await settle()
        second = start(batcher, rows[2])
        await settle()
        third = start(batcher, *rows[3:])
        await settle()
        assert backend.batches == [2, 1]
        first[0].cancel()
        await settle()
        assert backend.cancelled == 0
        first[1].cancel()
        await settle()
        assert backend.cancelled == 1
        assert backend.batches == [2, 1, 3]
        backend.go.set()
        answers = await asyncio.gather(*second, *third)
        for each, answer in zip(rows[2:], answers, strict=True):
            np.testing.assert_allclose(answer.scores, expected(each), atol=1e-5)

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(8))
def test_who_hangs_up_as_answers_come_takes_no_other_call_along(turns):
    async def run():
        backend = SlowBackend()
        batcher = RankBatcher(backend)
        rows = [row(n) for n in range(MAX_CALLS + 1)]
        ranks = await occupy(batcher, rows)
        ranks += start(batcher, rows[-1])
        await settle()
        backend.go.set()
        gone, *left = ranks
        for _ in range(turns):
            await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*left)
        for each, answer in zip(rows[1:], answers, strict=True):
            np.testing.assert_allclose(answer.scores, expected(each), atol=1e-5)

    asyncio.run(run())


def fail_on_poison(item_ids):
    return BackendError("no") if b"poison" in item_ids else None


def test_row_that_fails_does_not_take_the_batch_along():
    async def run():
        backend = SlowBackend(fail_on_poison)
        batcher = RankBatcher(backend)
        poisoned = row(7)._replace(item_ids=["001", "poison", "002"])
        rows = [*[row(n) for n in range(MAX_CALLS + 3)], poisoned]
        ranks = start(batcher, *rows)
        await settle()
        backend.go.set()
        answers = await asyncio.gather(*ranks, return_exceptions=True)
        assert isinstance(answers[-1], BackendError)
        for number, answer in enumerate(answers[:-1]):
            np.testing.assert_allclose(
                answer.scores, expected(row(number)), atol=1e-5
            )

    asyncio.run(run())


def test_rows_are_not_tried_alone_for_callers_who_are_gone():
    async def run():
        backend = SlowBackend(fail_on_poison)
        batcher = RankBatcher(backend)
        poisoned = row(7)._replace(item_ids=["001", "poison", "002"])
        ranks = start(batcher, row(1), row(2), poisoned)
        await settle()
        ranks[0].cancel()
        backend.go.set()
        await asyncio.gather(*ranks, return_exceptions=True)
        assert backend.batches == [3, 1, 1]

    asyncio.run(run())


@pytest.mark.parametrize("error", [BackendDeadlineError, UnknownModelError])
def test_server_that_is_gone_is_not_asked_row_by_row(error):
    async def run():
        backend = SlowBackend(lambda items: error("gone"))
        batcher = RankBatcher(backend)
        rows = [row(n) for n in range(MAX_CALLS + 4)]
        ranks = await occupy(batcher, rows)
        ranks += start(batcher, *rows[MAX_CALLS:])
        await settle()
        backend.go.set()
        answers = await asyncio.gather(*ranks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [error] * len(ranks)
        assert len(backend.batches) == MAX_CALLS + 1

    asyncio.run(run())


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (3,)])
def test_scores_of_another_shape_are_refused(shape):
    class Wrong(OracleBackend):
        async def run(self, model, request):
            scores = encode_tensor(np.zeros(shape, np.float32))
            return pb.PredictResponse(outputs={"score": scores})

    with pytest.raises(BackendError, match="one for each candidate"):
        asyncio.run(RankBatcher(Wrong({})).rank(MODELS[1], row(1)))
