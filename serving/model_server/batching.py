"""Requests of several callers in one run of the graph.

A run of sixteen rows costs little more than one of a single row. Nobody waits
for company while a thread is free: requests that arrive when all are busy
queue up, and the first to become free takes all that fit, its caller's own
thread doing the work for the others (leader and followers). So there is no
thread to hand over to, and no delay without load.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable, Hashable, Sequence

from serving.errors import GraphError
from serving.model_server.tensor import Tensor, concatenate, split

Run = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclasses.dataclass(frozen=True)
class BatchingConfig:
    """How requests are put together.

    Attributes:
        max_rows: The most rows of one run; 1 turns batching off.
        max_wait_seconds: How long a run waits for more rows. It does so only
            when the run before had company, for without load there is none.
        parallel: How many runs of a signature there are at the same time.
    """

    max_rows: int = 64
    max_wait_seconds: float = 0.0
    parallel: int = 2


class _Job:
    """A request under way.

    `turn` is free when its caller has something to do: return the outputs; or
    run alone, because a shared run failed; or lead.
    """

    def __init__(
        self, inputs: Sequence[Tensor], rows: int, key: Hashable
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.key = key
        self.outputs: list[Tensor] | None = None
        self.alone = False
        self.turn = threading.Lock()
        self.turn.acquire()


class Batcher:
    """Runs one signature for callers in several threads."""

    def __init__(
        self, run: Run, batched: Sequence[bool], config: BatchingConfig
    ) -> None:
        """Sets the batcher up.

        Args:
            run: Runs the graph.
            batched: Of each input, whether its first dimension is the batch.
                Requests share a run if the other inputs are equal.
            config: How requests are put together.
        """
        self._run = run
        self._batched = batched
        self._config = config
        self._queue: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._running = 0
        self._collecting = False
        self._had_company = False

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Returns the outputs for some inputs.

        Raises:
            GraphError: The graph failed for these inputs.
        """
        sizes = {
            tensor.shape[0]
            for tensor, batched in zip(inputs, self._batched, strict=True)
            if batched
        }
        if len(sizes) != 1:
            # The graph's business: it may broadcast, or it fails.
            return self._run(inputs)
        job = _Job(inputs, sizes.pop(), self._key(inputs))
        with self._changed:
            leads = (
                self._running < self._config.parallel and not self._collecting
            )
            if leads:
                self._running += 1
            else:
                self._queue.append(job)
                self._changed.notify()
        if not leads:
            job.turn.acquire()
            if job.outputs is not None:
                return job.outputs
            if job.alone:
                return self._run(job.inputs)
        return self._lead(job)

    def _key(self, inputs: Sequence[Tensor]) -> Hashable:
        return tuple(
            [
                tensor.shape[1:] if batched else (tensor.shape, _frozen(tensor))
                for tensor, batched in zip(inputs, self._batched, strict=True)
            ]
        )

    def _lead(self, job: _Job) -> list[Tensor]:
        """Runs a job and others with it, then lets the next one lead."""
        followers = self._take(job)
        try:
            if not followers:
                return self._run(job.inputs)
            outputs = self._run_together([job, *followers])
            for follower, own in zip(followers, outputs[1:], strict=True):
                follower.outputs = own
            return outputs[0]
        except GraphError:
            if not followers:
                raise
            # Whoever's fault it is, the others must not suffer from it.
            return self._run(job.inputs)
        finally:
            for follower in followers:
                follower.turn.release()
            self._pass_on()

    def _take(self, job: _Job) -> list[_Job]:
        """Returns queued jobs that may share the run of a job."""
        room = self._config.max_rows - job.rows
        with self._changed:
            if self._config.max_wait_seconds and self._had_company:
                self._collecting = True
                self._changed.wait_for(
                    lambda: sum(j.rows for j in self._queue) >= room,
                    self._config.max_wait_seconds,
                )
                self._collecting = False
            taken: list[_Job] = []
            left: list[_Job] = []
            while self._queue:
                other = self._queue.popleft()
                if other.key == job.key and other.rows <= room:
                    room -= other.rows
                    other.alone = True
                    taken.append(other)
                else:
                    left.append(other)
            self._queue.extend(left)
            self._had_company = bool(taken)
        return taken

    def _pass_on(self) -> None:
        with self._changed:
            if self._queue:
                self._queue.popleft().turn.release()
            else:
                self._running -= 1

    def _run_together(self, jobs: Sequence[_Job]) -> list[list[Tensor]]:
        """Returns the outputs of each job."""
        inputs = [
            concatenate([job.inputs[index] for job in jobs])
            if batched
            else jobs[0].inputs[index]
            for index, batched in enumerate(self._batched)
        ]
        sizes = [job.rows for job in jobs]
        parts = [split(output, sizes) for output in self._run(inputs)]
        return [list(own) for own in zip(*parts, strict=True)]


def _frozen(tensor: Tensor) -> Hashable:
    return tensor.data if isinstance(tensor.data, bytes) else tuple(tensor.data)
