"""Ranks of several users in one request to the model server.

What is asked of it is scores (`rank`), or the vectors that give them (`embed`).

Weights are an input, so a batch may mix users, and sixteen rows cost the
gateway and the model server little more than one. Nobody waits for a batch to
fill up: ranks that came in together are sent at once while few requests are on
their way, and those that come meanwhile leave together when one of them is
back. So a lonely caller notices nothing, and batches grow with the load. A
request that nobody waits for any more is cancelled: one that hangs keeps the
next from leaving no longer than its callers are patient.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import (
    BackendDeadlineError,
    BackendError,
    BackendUnavailableError,
)
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.models.templates import (
    EMBED,
    ITEM_KNOWN,
    ITEM_VECTOR,
    RANK,
    SCORE,
    USER_VECTOR,
    RankRow,
)
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor

# Two keep the model server busy while the gateway reads and writes.
MAX_CALLS = 2
MAX_ROWS = 32
# Longer lists of candidates make up their own batch, and hold nobody up.
MAX_SHARED_CANDIDATES = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class RowScores:
    """What the model says of one row.

    Attributes:
        scores: Logits, float32, shape [candidates].
        known: Which candidates it knows, bool, shape [candidates]; None if
            it does not tell.
    """

    scores: NDArray[Any]
    known: NDArray[np.bool_] | None


@dataclasses.dataclass(frozen=True, eq=False)
class RowVectors:
    """What the model says of one row, for the gateway to score.

    Attributes:
        user: Vector of the user, float32, shape [V].
        items: Of each candidate, float32, shape [candidates, V].
        known: Which candidates it knows, bool, shape [candidates].
    """

    user: NDArray[np.float32]
    items: NDArray[np.float32]
    known: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class _Waiting:
    signature: str
    model: ServedModel
    row: RankRow
    outcome: "asyncio.Future[Any]"

    @property
    def shares_with(self) -> tuple[str, str, int, int]:
        """Equal for ranks that may share a request.

        Of one version, and of about the same length: padding costs as much
        as candidates do.
        """
        size = len(self.row.item_ids).bit_length()
        return self.signature, self.model.name, self.model.version, size


class RankBatcher:
    """Sends ranks to a model server; lives inside one event loop."""

    def __init__(self, backend: ModelServer) -> None:
        self._backend = backend
        self._waiting: collections.deque[_Waiting] = collections.deque()
        # Which ranks each call is for; none before it has begun.
        self._calls: dict[asyncio.Task[None], list[_Waiting]] = {}

    async def rank(self, model: ServedModel, row: RankRow) -> RowScores:
        """Scores one user's candidates.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give a score per candidate.
        """
        answer: RowScores = await self._join(RANK, model, row)
        return answer

    async def embed(self, model: ServedModel, row: RankRow) -> RowVectors:
        """Gives vectors of one user and of candidates.

        Args:
            model: The pinned version to ask; one that has vectors.
            row: The user, and candidates; there may be none.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give these vectors.
        """
        answer: RowVectors = await self._join(EMBED, model, row)
        return answer

    async def _join(
        self, signature: str, model: ServedModel, row: RankRow
    ) -> Any:
        if len(row.item_ids) > MAX_SHARED_CANDIDATES:
            return (await self._ask(signature, model, [row]))[0]
        outcome: asyncio.Future[Any] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiting.append(_Waiting(signature, model, row, outcome))
        if len(self._waiting) == 1:
            self._start_call()
        try:
            return await outcome
        except asyncio.CancelledError:
            self._cancel_deserted()
            raise

    def _cancel_deserted(self) -> None:
        """Ends calls whose callers have all hung up, or waited long enough."""
        for call, batch in self._calls.items():
            if batch and all(each.outcome.done() for each in batch):
                call.cancel()

    def _start_call(self) -> None:
        """Has a task send what waits, if one more request may be sent."""
        if len(self._calls) < MAX_CALLS:
            # It begins once all that is ready in this turn of the loop has
            # joined those that wait.
            batch: list[_Waiting] = []
            call = asyncio.create_task(self._call(batch))
            self._calls[call] = batch
            call.add_done_callback(self._end_call)

    def _end_call(self, call: "asyncio.Task[None]") -> None:
        del self._calls[call]
        if self._waiting:
            self._start_call()

    async def _call(self, batch: list[_Waiting]) -> None:
        """Fills a batch with ranks that wait, and sends it."""
        batch += self._next_batch()
        if self._waiting:
            self._start_call()
        if batch:
            await self._answer_together(batch)

    def _next_batch(self) -> list[_Waiting]:
        """Takes the ranks that leave together: the oldest, and its like."""
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        while self._waiting and len(batch) < MAX_ROWS:
            waiting = self._waiting.popleft()
            if waiting.outcome.done():
                # Its caller has hung up.
                continue
            if not batch or waiting.shares_with == batch[0].shares_with:
                batch.append(waiting)
            else:
                others.append(waiting)
        self._waiting.extendleft(reversed(others))
        return batch

    async def _answer_together(self, batch: Sequence[_Waiting]) -> None:
        """Sends a batch, and tells each row's caller what came of it."""
        signature, model = batch[0].signature, batch[0].model
        rows = [each.row for each in batch]
        try:
            answers = await self._ask(signature, model, rows)
        except Exception as error:
            if len(batch) > 1 and _may_be_one_rows_fault(error):
                for each in batch:
                    if not each.outcome.done():
                        await self._answer_together([each])
                return
            for each in batch:
                if not each.outcome.done():
                    each.outcome.set_exception(error)
            return
        for each, answer in zip(batch, answers, strict=True):
            if not each.outcome.done():
                each.outcome.set_result(answer)

    async def _ask(
        self, signature: str, model: ServedModel, rows: Sequence[RankRow]
    ) -> Sequence[RowScores | RowVectors]:
        encode, decode = (
            (model.templates.embed, _vectors)
            if signature == EMBED
            else (model.templates.rank, _scores)
        )
        response = await self._backend.run(model.name, encode(rows))
        return decode(model, [len(row.item_ids) for row in rows], response)


def _scores(
    model: ServedModel, sizes: Sequence[int], response: pb.PredictResponse
) -> list[RowScores]:
    expected = (len(sizes), max(sizes))
    scores = _output(model, response, SCORE)
    known = _known(response)
    if scores.shape != expected or (
        known is not None and known.shape != expected
    ):
        raise BackendError(
            f"Version {model.version} of {model.name!r} gave scores of "
            f"shape {list(scores.shape)}, expected {list(expected)}: one "
            "for each candidate. Roll it back and check how it was "
            "exported."
        )
    return [
        RowScores(
            scores[index, :size],
            None if known is None else known[index, :size],
        )
        for index, size in enumerate(sizes)
    ]


def _vectors(
    model: ServedModel, sizes: Sequence[int], response: pb.PredictResponse
) -> list[RowVectors]:
    length = model.manifest.vector_size
    # A row has one place at least.
    place = (len(sizes), max(1, *sizes))
    users, items, known = (
        _output(model, response, output)
        for output in (USER_VECTOR, ITEM_VECTOR, ITEM_KNOWN)
    )
    found = users.shape, items.shape, known.shape
    expected = (len(sizes), length), (*place, length), place
    if found != expected:
        raise BackendError(
            f"Version {model.version} of {model.name!r} gave vectors of "
            f"shapes {found}, expected {expected}: of each user and candidate. "
            "Roll it back and check how it was exported."
        )
    return [
        RowVectors(
            users[index],
            items[index, :size],
            known[index, :size].astype(np.bool_, copy=False),
        )
        for index, size in enumerate(sizes)
    ]


def _output(
    model: ServedModel, response: pb.PredictResponse, name: str
) -> NDArray[Any]:
    if name not in response.outputs:
        raise BackendError(
            f"Version {model.version} of {model.name!r} gave no {name}. Roll "
            "it back and check how it was exported."
        )
    values: NDArray[Any] = decode_tensor(response.outputs[name])
    return values


def _known(response: pb.PredictResponse) -> NDArray[np.bool_] | None:
    if ITEM_KNOWN not in response.outputs:
        return None
    known: NDArray[np.bool_] = decode_tensor(response.outputs[ITEM_KNOWN])
    return known


def _may_be_one_rows_fault(error: Exception) -> bool:
    """Whether other rows of the batch may do better on their own."""
    return isinstance(error, BackendError) and not isinstance(
        error, (BackendUnavailableError, BackendDeadlineError)
    )
