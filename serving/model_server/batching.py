"""Requests of several callers in one run of the graph.

A run of sixteen rows costs little more than one of a single row.
"""

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from serving.model_server.tensor import Tensor, concatenate, split


class Runnable(Protocol):
    """What runs a batch.

    Attributes:
        batched: Of each input, whether its first dimension is the batch; all
            False if requests can't share a run.
    """

    batched: tuple[bool, ...]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs the graph."""


@dataclasses.dataclass(eq=False)
class Job:
    """A request that is ready to run.

    Attributes:
        signature: What runs it.
        inputs: In the order of the signature.
        outcome: The outputs, or why there are none; set by `run_jobs`.
    """

    signature: Runnable
    inputs: Sequence[Tensor]
    outcome: list[Tensor] | Exception | None = None

    @property
    def rows(self) -> int:
        """Size of the batch dimension; 0 if there is none to speak of."""
        sizes = {
            tensor.shape[0]
            for tensor, batched in zip(
                self.inputs, self.signature.batched, strict=True
            )
            if batched
        }
        # Unequal sizes are the graph's business: it may broadcast, or fail.
        return sizes.pop() if len(sizes) == 1 else 0

    @property
    def key(self) -> Hashable:
        """Equal for jobs that can share a run."""
        return id(self.signature), tuple(
            [
                tensor.shape[1:] if batched else (tensor.shape, _frozen(tensor))
                for tensor, batched in zip(
                    self.inputs, self.signature.batched, strict=True
                )
            ]
        )


def run_jobs(jobs: Iterable[Job], max_rows: int) -> None:
    """Runs jobs, together where that is right.

    Args:
        jobs: Their outcomes are set.
        max_rows: The most rows of one run.
    """
    batches: dict[Hashable, list[Job]] = collections.defaultdict(list)
    for job in jobs:
        if job.rows:
            batches[job.key].append(job)
        else:
            _run_alone(job)
    for batch in batches.values():
        for part in _cut(batch, max_rows):
            _run_together(part)


def _cut(jobs: Sequence[Job], max_rows: int) -> Iterable[list[Job]]:
    part: list[Job] = []
    rows = 0
    for job in jobs:
        if part and rows + job.rows > max_rows:
            yield part
            part, rows = [], 0
        part.append(job)
        rows += job.rows
    yield part


def _run_together(jobs: Sequence[Job]) -> None:
    first = jobs[0]
    if len(jobs) == 1:
        _run_alone(first)
        return
    sizes = [job.rows for job in jobs]
    try:
        inputs = [
            concatenate([job.inputs[index] for job in jobs])
            if batched
            else first.inputs[index]
            for index, batched in enumerate(first.signature.batched)
        ]
        outputs = first.signature.run(inputs)
        parts = [split(output, sizes) for output in outputs]
    except Exception:
        # Whoever's fault it is, the others must not suffer from it. There may
        # be no room for all of them together, too.
        for job in jobs:
            _run_alone(job)
        return
    for job, own in zip(jobs, zip(*parts, strict=True), strict=True):
        job.outcome = list(own)


def _run_alone(job: Job) -> None:
    try:
        job.outcome = job.signature.run(job.inputs)
    except Exception as error:
        # Somebody waits for an answer, and the version to be released.
        job.outcome = error


def _frozen(tensor: Tensor) -> Hashable:
    return tensor.data if isinstance(tensor.data, bytes) else tuple(tensor.data)
